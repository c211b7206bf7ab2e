//! A plan as people and programs read it: an aligned table, or JSON.

use std::fmt;

use serde::Serialize;

use super::{Plan, Prefault, Sections};
use crate::size::{ByteSize, MIB};

/// A plan, ready to print: [`Display`](fmt::Display) writes the table, [`Explanation::to_json`] the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    process_bytes: u64,
    engine_bytes: u64,
    segment_size_bytes: u64,
    process_from: String,
    components: Vec<Component>,
    #[serde(flatten)]
    sections: Sections,
}

/// One part of the process. The parts of a plan sum up to the process, to the byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Its name.
    pub component: &'static str,
    /// Its size.
    pub bytes: u64,
    /// How many segments that is, where it is handed out in segments.
    pub segments: Option<u64>,
    /// What decided its size.
    pub from: String,
}

impl Explanation {
    pub(super) fn of(plan: &Plan) -> Explanation {
        let sizes = &plan.sizes;
        let component = |component, bytes, in_segments: bool, from: &str| Component {
            component,
            bytes,
            segments: in_segments.then_some(bytes / sizes.segment),
            from: from.into(),
        };
        let components = vec![
            component("overhead", sizes.overhead, false, &sizes.from.overhead),
            component("framework", sizes.framework, false, &sizes.from.framework),
            component("user heap", sizes.user, false, &sizes.from.user),
            component("network", sizes.network, true, &sizes.from.network),
            component(
                MANAGED,
                sizes.managed - sizes.workspace,
                true,
                &sizes.from.managed,
            ),
            component(WORKSPACE, sizes.workspace, true, &sizes.from.workspace),
        ];
        Explanation {
            process_bytes: sizes.process,
            engine_bytes: sizes.process - sizes.overhead,
            segment_size_bytes: sizes.segment,
            process_from: sizes.from.process.clone(),
            components,
            sections: plan.sections.clone(),
        }
    }

    /// The parts of the process, which sum up to it.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The plan as one JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("an explanation is numbers, words and lists")
    }
}

/// What of managed memory budgets share out.
const MANAGED: &str = "managed: budgets";
/// What of managed memory spilling works in.
const WORKSPACE: &str = "managed: spill workspace";

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        let share = |bytes: u64, of: u64| format!("{:.1} %", 100.0 * bytes as f64 / of as f64);
        let row = |name: &str, bytes: u64, segments: Option<u64>, from: &str| {
            let segments = segments.map(|count| count.to_string()).unwrap_or_default();
            let share = share(bytes, self.process_bytes);
            [
                name.into(),
                mebibytes(bytes),
                bytes.to_string(),
                segments,
                share,
                from.into(),
            ]
        };
        let managed: Vec<&Component> = self
            .components
            .iter()
            .filter(|part| [MANAGED, WORKSPACE].contains(&part.component))
            .collect();
        let managed_bytes = managed.iter().map(|part| part.bytes).sum::<u64>();

        let mut rows: Vec<[String; 6]> =
            vec![["component", "MiB", "bytes", "segments", "share", "decided by"].map(String::from)];
        for part in self.components.iter().filter(|part| !managed.contains(part)) {
            rows.push(row(part.component, part.bytes, part.segments, &part.from));
        }
        let segments = managed_bytes / self.segment_size_bytes;
        rows.push(row(
            "managed",
            managed_bytes,
            Some(segments),
            managed.first().map_or("", |part| &part.from),
        ));
        let process = row("process", self.process_bytes, None, &self.process_from);
        rows.push(process);

        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for (index, [name, mebibytes, bytes, segments, share, from]) in rows.iter().enumerate() {
            if index == 1 || index == rows.len() - 1 {
                writeln!(f, "{}", "-".repeat(widths.iter().sum::<usize>() + 10))?;
            }
            writeln!(
                f,
                "{name:<0$}  {mebibytes:>1$}  {bytes:>2$}  {segments:>3$}  {share:>4$}  {from}",
                widths[0], widths[1], widths[2], widths[3], widths[4]
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "engine memory (process without overhead): {} MiB; segments of {}",
            mebibytes(self.engine_bytes),
            ByteSize(self.segment_size_bytes)
        )?;
        for part in managed {
            writeln!(
                f,
                "{}: {} MiB, {} segments, {} of managed",
                part.component,
                mebibytes(part.bytes),
                part.segments.unwrap_or(0),
                share(part.bytes, managed_bytes)
            )?;
        }
        writeln!(
            f,
            "memory is touched {}",
            match self.sections.prefault {
                Prefault::Demand => "on demand, a little ahead of it",
                Prefault::Background => "in the background, all of it, from the start on",
                Prefault::Start => "before the first job, all of it",
            }
        )?;
        let directories: Vec<_> = self
            .sections
            .spill
            .directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        writeln!(
            f,
            "spill files: {}, {}",
            directories.join(", "),
            match self.sections.spill.max_bytes {
                Some(bytes) => format!("at most {}", ByteSize(bytes)),
                None => "until the disk is full".into(),
            }
        )?;
        write!(
            f,
            "parallelism: {}, {} key groups, {} helper threads",
            self.sections.job.parallelism,
            self.sections.job.max_parallelism,
            self.sections.exec.helper_threads
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use crate::config::Config;
    use crate::container::Container;
    use crate::size::ByteSize;

    fn plan() -> Plan {
        let mut config = Config::default();
        config.set("memory.process_size=2GiB").unwrap();
        let container = Container {
            limit: None,
            ram: Some(ByteSize::gib(16)),
            cores: 2,
            temporary_directory: "/var/tmp".into(),
        };
        Plan::prove(&config, &container).unwrap()
    }

    #[test]
    fn the_table_adds_up() {
        let expected = "\
component     MiB       bytes  segments    share  decided by
----------------------------------------------------------------------------------------
overhead    204.8   214748364             10.0 %  memory.overhead_fraction 0.1 (default)
framework    64.0    67108864              3.1 %  memory.framework_size 64 MiB (default)
user heap   489.0   512734004             23.9 %  what the others leave
network     184.3   193265664      5898    9.0 %  memory.network_fraction 0.1 (default)
managed    1105.9  1159626752     35389   54.0 %  memory.managed_fraction 0.6 (default)
----------------------------------------------------------------------------------------
process    2048.0  2147483648            100.0 %  memory.process_size 2 GiB (--set)

engine memory (process without overhead): 1843.2 MiB; segments of 32 KiB
managed: budgets: 1097.9 MiB, 35133 segments, 99.3 % of managed
managed: spill workspace: 8.0 MiB, 256 segments, 0.7 % of managed
memory is touched on demand, a little ahead of it
spill files: /var/tmp, until the disk is full
parallelism: 2, 128 key groups, 2 helper threads";
        let table = plan().explain().to_string();
        assert!(table == expected, "{table}");
    }

    #[test]
    fn json_has_the_same_numbers() {
        let value: serde_json::Value = serde_json::from_str(&plan().explain().to_json()).unwrap();
        assert_eq!(value["process_bytes"], 2_147_483_648u64);
        assert_eq!(value["engine_bytes"], 1_932_735_284u64);
        let components = value["components"].as_array().unwrap();
        let sum: u64 = components
            .iter()
            .map(|component| component["bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, 2_147_483_648);
        assert_eq!(value["network"]["buffers_per_channel"], 2);
        assert_eq!(value["spill"]["codec"], "adaptive");
        assert_eq!(value["job"]["max_parallelism"], 128);
        assert_eq!(value["prefault"], "demand");
    }
}
