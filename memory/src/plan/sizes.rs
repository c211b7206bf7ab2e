//! How the process is divided: from the top down, from the bottom up, or with both ends given.
//!
//! # Algorithm
//! 1. The ends: the process's size is given, or 80 % of what the container has, or, where both `managed_size`
//!    and `user_size` are given and it is not, the sum of what they need.
//! 2. Top down: overhead by its fraction; engine memory is the rest; network and managed by theirs; the user
//!    heap gets what is left.
//! 3. A size beats its fraction. With the user heap's size given, managed memory gets what is left. With managed
//!    memory's given too, overhead gets what is left, and must stay within its bounds.
//! 4. Network, managed memory and spill workspace are rounded down to whole segments, before the rest is taken.
//!
//! Worked example, 2 GiB: overhead 204.8 MiB, engine memory 1843.2 MiB; network 184.3 MiB (5898 segments), managed
//! 1105.9 MiB (35389 segments), framework 64 MiB, user heap 489.0 MiB.

use super::size;
use crate::config::{Config, Key, names::*};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::size::{ByteSize, MIB};

/// The spill workspace by default: enough for a dozen large writes in flight.
const WORKSPACE: u64 = 8 * MIB;
/// One block out and one block in.
const WORKSPACE_SEGMENTS: u64 = 2;

/// The sizes of a process in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes {
    pub process: u64,
    pub overhead: u64,
    pub framework: u64,
    pub user: u64,
    pub network: u64,
    /// With the workspace.
    pub managed: u64,
    pub workspace: u64,
    pub segment: u64,
    pub from: Reasons,
}

/// What decided each size, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reasons {
    pub process: String,
    pub overhead: String,
    pub framework: String,
    pub user: String,
    pub network: String,
    pub managed: String,
    pub workspace: String,
}

/// A size, and what decided it.
struct Part {
    bytes: u64,
    from: String,
}

impl Sizes {
    pub fn derive(config: &Config, container: &Container) -> Result<Sizes> {
        let division = Division {
            config,
            container,
            segment: size(config, SEGMENT_SIZE),
            framework: size(config, FRAMEWORK_SIZE),
            overhead: Bounds::of(config, OVERHEAD_FRACTION, OVERHEAD_MIN, OVERHEAD_MAX)?,
            network: Bounds::of(config, NETWORK_FRACTION, NETWORK_MIN, NETWORK_MAX)?,
        };
        let segment = division.segment;
        if division.network.least < segment {
            return Err(Error::config(format!(
                "{} is below one segment ({}); raise the first or lower the second",
                config.shown(NETWORK_MIN),
                config.shown(SEGMENT_SIZE)
            )));
        }
        let managed = config.size(MANAGED_SIZE).map(|managed| {
            let bytes = whole(managed.bytes(), segment);
            Part::new(bytes, config.shown(MANAGED_SIZE))
        });
        let user = config
            .size(USER_SIZE)
            .map(|user| Part::new(user.bytes(), config.shown(USER_SIZE)));
        let parts = match (managed, user) {
            (Some(managed), Some(user)) => division.bottom_up(managed, user)?,
            (None, Some(user)) => division.around_user_heap(user)?,
            (managed, None) => division.top_down(managed)?,
        };
        let Parts {
            process,
            overhead,
            network,
            managed,
            user,
        } = parts;
        let workspace = workspace(config, &managed, segment)?;
        if (network.bytes + managed.bytes) / segment > u64::from(u32::MAX) {
            return Err(Error::config(format!(
                "{} cuts {} into more than 2^32 segments; raise it",
                config.shown(SEGMENT_SIZE),
                ByteSize(network.bytes + managed.bytes)
            )));
        }
        let sizes = Sizes {
            process: process.bytes,
            overhead: overhead.bytes,
            framework: division.framework,
            user: user.bytes,
            network: network.bytes,
            managed: managed.bytes,
            workspace: workspace.bytes,
            segment,
            from: Reasons {
                process: process.from,
                overhead: overhead.from,
                framework: config.shown(FRAMEWORK_SIZE),
                user: user.from,
                network: network.from,
                managed: managed.from,
                workspace: workspace.from,
            },
        };
        let sum = sizes.overhead + sizes.framework + sizes.user + sizes.network + sizes.managed;
        assert_eq!(
            sum, sizes.process,
            "I1: the parts add up to the process: {sizes:?}"
        );
        Ok(sizes)
    }
}

/// What every way to divide a process starts from.
struct Division<'a> {
    config: &'a Config,
    container: &'a Container,
    segment: u64,
    framework: u64,
    overhead: Bounds,
    network: Bounds,
}

/// A process, divided; with framework, the parts add up to it.
struct Parts {
    process: Part,
    overhead: Part,
    network: Part,
    managed: Part,
    user: Part,
}

impl Division<'_> {
    /// Managed memory and user heap are given: engine memory follows, network memory being a share of a sum
    /// that it is part of; then the process does, or where that is given too, overhead is what is left of it.
    fn bottom_up(&self, managed: Part, user: Part) -> Result<Parts> {
        let others = self.framework + user.bytes + managed.bytes;
        let network = self
            .network
            .share_besides(self.config, others)
            .whole(self.segment);
        let engine = others + network.bytes;
        let (process, overhead) = match self.config.size(PROCESS_SIZE) {
            Some(bytes) => {
                let process = given_process(self.config, self.container, bytes.bytes())?;
                let overhead = self.overhead.rest(self.config, process.bytes, engine)?;
                (process, overhead)
            }
            None => {
                let overhead = self.overhead.share_besides(self.config, engine);
                let process = summed_process(self.config, self.container, engine + overhead.bytes)?;
                (process, overhead)
            }
        };
        Ok(Parts {
            process,
            overhead,
            network,
            managed,
            user,
        })
    }

    /// Process and user heap are given: managed memory is what the others leave, in whole segments; what is
    /// less than one is nobody's, and so overhead.
    fn around_user_heap(&self, user: Part) -> Result<Parts> {
        let (process, mut overhead, network) = self.top()?;
        let engine = process.bytes - overhead.bytes;
        let rest = self.left(
            &process,
            &overhead,
            [("network", &network), ("user heap", &user)],
            "managed memory",
        )?;
        let managed = Part::new(rest, LEFT_OVER).whole(self.segment);
        let by_fraction = share(engine, self.config.fraction(MANAGED_FRACTION));
        if self.config.is_set(MANAGED_FRACTION) && by_fraction.abs_diff(managed.bytes) > self.segment {
            return Err(Error::config(format!(
                "{} makes managed memory {}, but {} leaves {}; remove one",
                self.config.shown(MANAGED_FRACTION),
                ByteSize(by_fraction),
                self.config.shown(USER_SIZE),
                ByteSize(managed.bytes),
            )));
        }
        overhead.bytes += rest - managed.bytes;
        Ok(Parts {
            process,
            overhead,
            network,
            managed,
            user,
        })
    }

    /// The process is given: the user heap is what the others leave.
    fn top_down(&self, managed: Option<Part>) -> Result<Parts> {
        let (process, overhead, network) = self.top()?;
        let engine = process.bytes - overhead.bytes;
        let managed = managed.unwrap_or_else(|| {
            let bytes = share(engine, self.config.fraction(MANAGED_FRACTION));
            Part::new(bytes, self.config.shown(MANAGED_FRACTION)).whole(self.segment)
        });
        let rest = self.left(
            &process,
            &overhead,
            [("network", &network), ("managed", &managed)],
            "user heap",
        )?;
        Ok(Parts {
            process,
            overhead,
            network,
            managed,
            user: Part::new(rest, LEFT_OVER),
        })
    }

    /// Process, overhead and network memory, from the top down; overhead is less than the process.
    fn top(&self) -> Result<(Part, Part, Part)> {
        let process = match self.config.size(PROCESS_SIZE) {
            Some(bytes) => given_process(self.config, self.container, bytes.bytes())?,
            None => automatic_process(self.container)?,
        };
        let overhead = self.overhead.share_of(self.config, process.bytes);
        let Some(engine) = process.bytes.checked_sub(overhead.bytes) else {
            return Err(Error::config(format!(
                "overhead of {} ({}) is more than the process has ({}); raise memory.process_size or lower \
                 memory.overhead_min",
                ByteSize(overhead.bytes),
                overhead.from,
                process.described()
            )));
        };
        let network = self.network.share_of(self.config, engine).whole(self.segment);
        Ok((process, overhead, network))
    }

    /// What framework and `taken` leave of engine memory for `wanted`.
    fn left(&self, process: &Part, overhead: &Part, taken: [(&str, &Part); 2], wanted: &str) -> Result<u64> {
        let engine = process.bytes - overhead.bytes;
        let sum = self.framework + taken.iter().map(|(_, part)| part.bytes).sum::<u64>();
        engine.checked_sub(sum).ok_or_else(|| {
            let [first, second] = taken.map(|(name, part)| format!("{name} {}", part.described()));
            Error::config(format!(
                "{} leaves {} after overhead {}, less than {} and {first} and {second} take ({}), and nothing for \
                 {wanted}; raise memory.process_size or lower one of the others",
                process.described_as("process"),
                ByteSize(engine),
                overhead.described(),
                self.config.shown(FRAMEWORK_SIZE),
                ByteSize(sum),
            ))
        })
    }
}

/// What decided a size that nobody gave.
const LEFT_OVER: &str = "what the others leave";

impl Part {
    fn new(bytes: u64, from: impl Into<String>) -> Part {
        Part {
            bytes,
            from: from.into(),
        }
    }

    fn whole(mut self, segment: u64) -> Part {
        self.bytes = whole(self.bytes, segment);
        self
    }

    /// `115.2 MiB by memory.managed_fraction 0.6 (default)`, or the key alone where that says the size.
    fn described(&self) -> String {
        let size = ByteSize(self.bytes).to_string();
        if self.from.contains(&format!(" {size} (")) {
            self.from.clone()
        } else {
            format!("{size} by {}", self.from)
        }
    }

    fn described_as(&self, name: &str) -> String {
        if self.from.starts_with("memory.") {
            self.described()
        } else {
            format!("{name} {}", self.described())
        }
    }
}

/// A fraction and the bounds of what it makes.
struct Bounds {
    fraction: f64,
    least: u64,
    most: u64,
    keys: (Key, Key, Key),
}

impl Bounds {
    fn of(config: &Config, fraction: Key, least: Key, most: Key) -> Result<Bounds> {
        let bounds = Bounds {
            fraction: config.fraction(fraction),
            least: size(config, least),
            most: size(config, most),
            keys: (fraction, least, most),
        };
        if bounds.least > bounds.most {
            return Err(Error::config(format!(
                "{} is over {}; lower the first or raise the second",
                config.shown(least),
                config.shown(most)
            )));
        }
        Ok(bounds)
    }

    /// The share of `whole`.
    fn share_of(&self, config: &Config, whole: u64) -> Part {
        self.bounded(config, share(whole, self.fraction))
    }

    /// The share of a whole of which `others` are all the rest.
    fn share_besides(&self, config: &Config, others: u64) -> Part {
        let bytes = others as f64 * self.fraction / (1.0 - self.fraction);
        // A fraction of 1 leaves nothing for the others: that is infinite (or, of nothing, no number).
        self.bounded(
            config,
            if bytes < self.most as f64 {
                bytes as u64
            } else {
                self.most
            },
        )
    }

    fn bounded(&self, config: &Config, bytes: u64) -> Part {
        let (fraction, least, most) = self.keys;
        let decided = match bytes {
            bytes if bytes < self.least => least,
            bytes if bytes >= self.most => most,
            _ => fraction,
        };
        Part {
            bytes: bytes.clamp(self.least, self.most),
            from: config.shown(decided),
        }
    }

    /// Overhead where process, managed memory and user heap are all given: what they leave, within bounds.
    fn rest(&self, config: &Config, process: u64, engine: u64) -> Result<Part> {
        let (_, least, most) = self.keys;
        let given = [PROCESS_SIZE, MANAGED_SIZE, USER_SIZE].map(|key| config.shown(key));
        let [process_shown, managed_shown, user_shown] = &given;
        let bytes = match process.checked_sub(engine) {
            Some(bytes) if bytes >= self.least => bytes,
            _ => {
                return Err(Error::config(format!(
                    "{managed_shown} and {user_shown} need a process of {} ({} with framework and network, and {}), \
                     but {process_shown} is less; raise the last, set it to auto, or lower one of the first",
                    ByteSize(engine + self.least),
                    ByteSize(engine),
                    config.shown(least),
                )));
            }
        };
        if bytes > self.most {
            return Err(Error::config(format!(
                "{process_shown} is {} more than {managed_shown} and {user_shown} account for, and {} allows only \
                 that much for overhead; remove one of the three sizes",
                ByteSize(bytes),
                config.shown(most),
            )));
        }
        Ok(Part::new(bytes, LEFT_OVER))
    }
}

/// A process size that was given.
fn given_process(config: &Config, container: &Container, bytes: u64) -> Result<Part> {
    let process = Part::new(bytes, config.shown(PROCESS_SIZE));
    fits(container, &process, "lower it, or set it to auto")?;
    Ok(process)
}

/// A process size that follows from its parts.
fn summed_process(config: &Config, container: &Container, bytes: u64) -> Result<Part> {
    let from = format!(
        "the sum for {} and {}",
        config.shown(MANAGED_SIZE),
        config.shown(USER_SIZE)
    );
    let process = Part { bytes, from };
    fits(container, &process, "lower one of them")?;
    Ok(process)
}

/// A process size that follows from the container.
fn automatic_process(container: &Container) -> Result<Part> {
    let Some((available, whose)) = container.available() else {
        return Err(Error::config(
            "memory.process_size auto: neither /proc/meminfo nor a control group says how much memory there is; set \
             memory.process_size to a size",
        ));
    };
    let bytes = whole(available.bytes() / 5 * 4, MIB);
    Ok(Part {
        bytes,
        from: format!("80 % of {available} ({whose})"),
    })
}

fn fits(container: &Container, process: &Part, remedy: &str) -> Result<()> {
    match container.available() {
        Some((available, whose)) if process.bytes > available.bytes() => Err(Error::config(format!(
            "{} is more than the {available} that there are ({whose}); {remedy}",
            process.described_as("a process of")
        ))),
        _ => Ok(()),
    }
}

fn workspace(config: &Config, managed: &Part, segment: u64) -> Result<Part> {
    let least = WORKSPACE_SEGMENTS * segment;
    if managed.bytes < least + segment {
        return Err(Error::config(format!(
            "managed memory of {} is below {} segments ({}), {WORKSPACE_SEGMENTS} to spill through and one to work in; \
             raise memory.managed_size",
            managed.described(),
            WORKSPACE_SEGMENTS + 1,
            config.shown(SEGMENT_SIZE),
        )));
    }
    let Some(given) = config.size(SPILL_WORKSPACE_SIZE) else {
        let bytes = whole((managed.bytes / 8).clamp(least, WORKSPACE.max(least)), segment);
        return Ok(Part::new(bytes, config.shown(SPILL_WORKSPACE_SIZE)));
    };
    let bytes = whole(given.bytes(), segment);
    if bytes < least {
        return Err(Error::config(format!(
            "{} is below {WORKSPACE_SEGMENTS} segments ({}), one for each direction; raise the first or lower the second",
            config.shown(SPILL_WORKSPACE_SIZE),
            config.shown(SEGMENT_SIZE),
        )));
    }
    if bytes + segment > managed.bytes {
        return Err(Error::config(format!(
            "{} leaves nothing of managed memory ({}); lower the first or raise memory.managed_size",
            config.shown(SPILL_WORKSPACE_SIZE),
            managed.described(),
        )));
    }
    Ok(Part::new(bytes, config.shown(SPILL_WORKSPACE_SIZE)))
}

/// `bytes` rounded down to whole units.
fn whole(bytes: u64, unit: u64) -> u64 {
    bytes - bytes % unit
}

fn share(whole: u64, fraction: f64) -> u64 {
    ((whole as f64 * fraction) as u64).min(whole)
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;
    use crate::container::Limit;

    fn container(gib: u64) -> Container {
        Container {
            limit: None,
            ram: Some(ByteSize::gib(gib)),
            cores: 2,
            temporary_directory: "/var/tmp".into(),
        }
    }

    fn derive(assignments: &[&str]) -> Result<Sizes> {
        let mut config = Config::default();
        for assignment in assignments {
            config.set(&format!("memory.{assignment}"))?;
        }
        Sizes::derive(&config, &container(16))
    }

    fn message(assignments: &[&str]) -> String {
        let error = derive(assignments).expect_err("this should be refused");
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn the_worked_example_holds() {
        let sizes = derive(&["process_size=2GiB"]).unwrap();
        assert_eq!(sizes.process, 2_147_483_648);
        assert_eq!(sizes.overhead, 214_748_364);
        assert_eq!(sizes.network, 5898 * 32_768);
        assert_eq!(sizes.managed, 35_389 * 32_768);
        assert_eq!(sizes.framework, 64 * MIB);
        assert_eq!(sizes.user, 512_734_004);
        let shown = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        assert_eq!(shown(sizes.overhead), "204.8");
        assert_eq!(shown(sizes.process - sizes.overhead), "1843.2");
        assert_eq!(shown(sizes.network), "184.3");
        assert_eq!(shown(sizes.managed), "1105.9");
    }

    #[test]
    fn from_the_bottom_up() {
        let sizes = derive(&["managed_size=256MiB", "user_size=128MiB"]).unwrap();
        assert_eq!(sizes.managed, 256 * MIB);
        assert_eq!(sizes.user, 128 * MIB);
        assert_eq!(sizes.framework, 64 * MIB);
        // A ninth of the other 448 MiB, in whole segments; then overhead is below its minimum.
        assert_eq!(sizes.network, 1592 * 32_768);
        assert_eq!(sizes.overhead, 64 * MIB);
        assert_eq!(ByteSize(sizes.process).to_string(), "561.8 MiB");

        let large = derive(&["managed_size=4GiB", "user_size=1GiB"]).unwrap();
        let engine = large.process - large.overhead;
        assert_eq!(large.network, whole(share(engine, 0.1), 32_768));
        assert!(
            large.overhead.abs_diff(share(large.process, 0.1)) < 2,
            "{large:?}"
        );
    }

    #[test]
    fn automatic_is_most_of_what_there_is() {
        let config = Config::default();
        let sizes = Sizes::derive(&config, &container(16)).unwrap();
        assert_eq!(sizes.process, whole(16 * 1024 * MIB / 5 * 4, MIB));
        assert_eq!(sizes.from.process, "80 % of 16 GiB (the machine's RAM)");
        let mut limited = container(16);
        limited.limit = Some(Limit {
            size: ByteSize::gib(1),
            file: "/sys/fs/cgroup/memory.max".into(),
        });
        let sizes = Sizes::derive(&config, &limited).unwrap();
        assert_eq!(sizes.process, 819 * MIB);
        assert_eq!(sizes.from.process, "80 % of 1 GiB (/sys/fs/cgroup/memory.max)");
        let unknown = Container {
            ram: None,
            ..container(1)
        };
        assert_eq!(
            Sizes::derive(&config, &unknown).unwrap_err().to_string(),
            "memory.process_size auto: neither /proc/meminfo nor a control group says how much memory there is; set \
             memory.process_size to a size"
        );
    }

    #[test]
    fn a_size_beats_its_fraction() {
        let sizes = derive(&["process_size=2GiB", "managed_size=1GiB", "managed_fraction=0.1"]).unwrap();
        assert_eq!(sizes.managed, 1024 * MIB);
        let sizes = derive(&["process_size=2GiB", "user_size=256MiB"]).unwrap();
        assert_eq!(sizes.user, 256 * MIB);
        // What is under a segment goes to overhead: 0.1 × 2 GiB is 214748364 and a fraction.
        assert_eq!(
            sizes.overhead - 214_748_364,
            (2_147_483_648 - 214_748_364) % 32_768
        );
        assert_eq!(
            sizes.managed + sizes.network,
            2_147_483_648 - sizes.overhead - 320 * MIB
        );
        // All three sizes: overhead is what they leave.
        let sizes = derive(&["process_size=600MiB", "managed_size=256MiB", "user_size=128MiB"]).unwrap();
        assert_eq!(sizes.overhead, 600 * MIB - 448 * MIB - sizes.network);
    }

    #[test]
    fn a_fraction_of_all_is_bounded() {
        let sizes = derive(&["managed_size=256MiB", "user_size=128MiB", "network_fraction=1"]).unwrap();
        assert_eq!(sizes.network, 1024 * MIB);
        let sizes = derive(&["managed_size=256MiB", "user_size=128MiB", "overhead_fraction=1"]).unwrap();
        assert_eq!(sizes.overhead, 1024 * MIB);
    }

    #[test]
    fn sizes_are_whole_segments() {
        let sizes = derive(&[
            "process_size=1GiB",
            "managed_size=100000001",
            "network_min=40000000",
            "network_max=40000000",
        ])
        .unwrap();
        assert_eq!(sizes.managed, 3051 * 32_768);
        assert_eq!(sizes.network, 1220 * 32_768);
    }

    #[test]
    fn the_workspace_is_a_part_of_managed_memory() {
        for (managed, workspace) in [
            ("1GiB", 8 * MIB),
            ("32MiB", 4 * MIB),
            ("256kb", 64 << 10),
            ("96kb", 64 << 10),
        ] {
            let sizes = derive(&["process_size=1900MiB", &format!("managed_size={managed}")]).unwrap();
            assert_eq!(sizes.workspace, workspace, "{managed}");
        }
        let sizes = derive(&["process_size=8GiB", "managed_size=1GiB", "segment_size=1MiB"]).unwrap();
        assert_eq!(sizes.workspace, 8 * MIB);
    }

    #[test]
    fn bounds_that_cross_name_both() {
        assert_eq!(
            message(&["network_min=2GiB"]),
            "memory.network_min 2 GiB (--set) is over memory.network_max 1 GiB (default); lower the first or raise \
             the second"
        );
        assert_eq!(
            message(&["overhead_max=1MiB"]),
            "memory.overhead_min 64 MiB (default) is over memory.overhead_max 1 MiB (--set); lower the first or \
             raise the second"
        );
        assert_eq!(
            message(&["network_min=16kb"]),
            "memory.network_min 16 KiB (--set) is below one segment (memory.segment_size 32 KiB (default)); raise \
             the first or lower the second"
        );
    }

    #[test]
    fn a_process_over_the_container_is_refused() {
        assert_eq!(
            message(&["process_size=17GiB"]),
            "memory.process_size 17 GiB (--set) is more than the 16 GiB that there are (the machine's RAM); lower it, \
             or set it to auto"
        );
        assert_eq!(
            message(&["managed_size=16GiB", "user_size=1GiB"]),
            "a process of 19.1 GiB by the sum for memory.managed_size 16 GiB (--set) and memory.user_size 1 GiB \
             (--set) is more than the 16 GiB that there are (the machine's RAM); lower one of them"
        );
    }

    #[test]
    fn a_process_under_its_parts_is_refused() {
        assert_eq!(
            message(&["process_size=256MiB"]),
            "memory.process_size 256 MiB (--set) leaves 192 MiB after overhead memory.overhead_min 64 MiB (default), \
             less than memory.framework_size 64 MiB (default) and network memory.network_min 32 MiB (default) and \
             managed 115.2 MiB by memory.managed_fraction 0.6 (default) take (211.2 MiB), and nothing for user heap; raise \
             memory.process_size or lower one of the others"
        );
        assert_eq!(
            message(&["process_size=1GiB", "user_size=1GiB"]),
            "memory.process_size 1 GiB (--set) leaves 921.6 MiB after overhead 102.4 MiB by memory.overhead_fraction \
             0.1 (default), less than memory.framework_size 64 MiB (default) and network 92.2 MiB by \
             memory.network_fraction 0.1 (default) and user heap memory.user_size 1 GiB (--set) take (1.2 GiB), and nothing for managed memory; raise \
             memory.process_size or lower one of the others"
        );
        assert_eq!(
            message(&["process_size=32MiB"]),
            "overhead of 64 MiB (memory.overhead_min 64 MiB (default)) is more than the process has \
             (memory.process_size 32 MiB (--set)); raise memory.process_size or lower memory.overhead_min"
        );
    }

    #[test]
    fn three_sizes_that_do_not_add_up_are_refused() {
        assert_eq!(
            message(&["process_size=512MiB", "managed_size=256MiB", "user_size=128MiB"]),
            "memory.managed_size 256 MiB (--set) and memory.user_size 128 MiB (--set) need a process of 561.8 MiB \
             (497.8 MiB with framework and network, and memory.overhead_min 64 MiB (default)), but \
             memory.process_size 512 MiB (--set) is less; raise the last, set it to auto, or lower one of the first"
        );
        assert_eq!(
            message(&["process_size=2GiB", "managed_size=256MiB", "user_size=128MiB"]),
            "memory.process_size 2 GiB (--set) is 1.5 GiB more than memory.managed_size 256 MiB (--set) and \
             memory.user_size 128 MiB (--set) account for, and memory.overhead_max 1 GiB (default) allows only that \
             much for overhead; remove one of the three sizes"
        );
        assert_eq!(
            message(&["process_size=2GiB", "user_size=256MiB", "managed_fraction=0.5"]),
            "memory.managed_fraction 0.5 (--set) makes managed memory 921.6 MiB, but memory.user_size 256 MiB (--set) \
             leaves 1.3 GiB; remove one"
        );
    }

    #[test]
    fn managed_memory_too_small_to_work_in_is_refused() {
        assert_eq!(
            message(&["process_size=1GiB", "managed_size=65kb"]),
            "managed memory of 64 KiB by memory.managed_size 65 KiB (--set) is below 3 segments (memory.segment_size \
             32 KiB (default)), 2 to spill through and one to work in; raise memory.managed_size"
        );
        let mut config = Config::default();
        for (workspace, expected) in [
            (
                "40kb",
                "spill.workspace_size 40 KiB (--set) is below 2 segments (memory.segment_size 32 KiB (default)), one \
                 for each direction; raise the first or lower the second",
            ),
            (
                "1gb",
                "spill.workspace_size 1 GiB (--set) leaves nothing of managed memory (memory.managed_size 1 GiB \
                 (--set)); lower the first or raise memory.managed_size",
            ),
        ] {
            config.set("memory.managed_size=1GiB").unwrap();
            config.set(&format!("spill.workspace_size={workspace}")).unwrap();
            assert_eq!(
                Sizes::derive(&config, &container(16)).unwrap_err().to_string(),
                expected
            );
        }
    }

    #[test]
    fn more_segments_than_ids_are_refused() {
        let mut config = Config::default();
        config.set("memory.segment_size=4kb").unwrap();
        let error = Sizes::derive(&config, &container(64 << 10))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "memory.segment_size 4 KiB (--set) cuts 30.7 TiB into more than 2^32 segments; raise it"
        );
    }

    /// Whatever is accepted adds up and keeps its bounds.
    #[test]
    fn any_accepted_configuration_adds_up() {
        let seed = 0x5eed_0001;
        let mut random = Random(seed);
        let (mut accepted, mut refused) = (0, 0);
        for case in 0..20_000 {
            let mut config = Config::default();
            let segment = 4096 << random.below(9);
            config.set(&format!("memory.segment_size={segment}")).unwrap();
            for key in [
                PROCESS_SIZE,
                OVERHEAD_MIN,
                OVERHEAD_MAX,
                FRAMEWORK_SIZE,
                USER_SIZE,
                NETWORK_MIN,
                NETWORK_MAX,
                MANAGED_SIZE,
                SPILL_WORKSPACE_SIZE,
            ] {
                if random.below(3) == 0 {
                    let digits = 10 + random.below(25);
                    let bytes = 1 + random.below(1 << digits);
                    // Out of its own range is another test's matter.
                    let _ = config.set(&format!("{}={bytes}", key.name()));
                }
            }
            for key in [OVERHEAD_FRACTION, NETWORK_FRACTION, MANAGED_FRACTION] {
                if random.below(3) == 0 {
                    config
                        .set(&format!(
                            "{}={}",
                            key.name(),
                            (1 + random.below(1000)) as f64 / 1000.0
                        ))
                        .unwrap();
                }
            }
            let container = container(1 + random.below(64));
            let plan = match Plan::prove(&config, &container) {
                Ok(plan) => plan,
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), crate::ErrorKind::Config, "seed {seed}, case {case}");
                    continue;
                }
            };
            accepted += 1;
            let at = format!("seed {seed}, case {case}: {plan:?}");
            let sizes = &plan.sizes;
            assert_eq!(
                plan.overhead_bytes()
                    + plan.framework_bytes()
                    + plan.user_bytes()
                    + (plan.network_segments() * plan.segment_size()) as u64
                    + (plan.managed_segments() * plan.segment_size() + plan.spill.workspace_bytes) as u64,
                plan.process_bytes(),
                "{at}"
            );
            assert_eq!(
                plan.explain()
                    .components()
                    .iter()
                    .map(|component| component.bytes)
                    .sum::<u64>(),
                sizes.process
            );
            assert!(sizes.process <= container.ram.unwrap().bytes(), "{at}");
            assert!(
                plan.managed_segments() >= 1 && plan.network_segments() >= 1,
                "{at}"
            );
            assert!(
                sizes.workspace >= 2 * sizes.segment && sizes.workspace < sizes.managed,
                "{at}"
            );
            assert!(sizes.network <= size(&config, NETWORK_MAX), "{at}");
            assert!(sizes.network + sizes.segment > size(&config, NETWORK_MIN), "{at}");
            assert!(sizes.overhead >= size(&config, OVERHEAD_MIN), "{at}");
            assert!(
                sizes.overhead < size(&config, OVERHEAD_MAX) + sizes.segment,
                "{at}"
            );
            for (key, is) in [(PROCESS_SIZE, sizes.process), (USER_SIZE, sizes.user)] {
                assert!(config.size(key).is_none_or(|given| given.bytes() == is), "{at}");
            }
            for (key, is) in [
                (MANAGED_SIZE, sizes.managed),
                (SPILL_WORKSPACE_SIZE, sizes.workspace),
            ] {
                assert!(
                    config
                        .size(key)
                        .is_none_or(|given| whole(given.bytes(), sizes.segment) == is),
                    "{at}"
                );
            }
        }
        assert!(
            accepted > 2000 && refused > 2000,
            "both ways are tried: {accepted} accepted, {refused} refused"
        );
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::hash::hash_u64(self.0) % bound
        }
    }
}
