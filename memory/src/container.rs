//! What the machine gives this process: its memory limit, its RAM, its cores, a place to spill.
//!
//! # Interface
//! [`Container::detect`] reads the running system; [`Container::at`] reads a made-up one below another root.
//! [`Container::available`] is what a memory plan starts from.
//!
//! # Algorithm
//! 1. `/proc/self/cgroup` names the process's group: in the v2 hierarchy (`0::/path`), in the v1 memory
//!    hierarchy (`4:memory:/path`), or in both.
//! 2. `/proc/self/mountinfo` says where that hierarchy is mounted, and which part of it: in a container the
//!    mount often shows the group itself as its root.
//! 3. Every limit from the group up to the mount counts, and the smallest wins: a parent bounds its children.
//!    Of v2, `memory.max` and `memory.high` (over which the kernel stalls the process); of v1,
//!    `memory.limit_in_bytes` and, for parents that the mount hides, `hierarchical_memory_limit`.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::size::{ByteSize, KIB};

/// The bounds within which a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The smallest memory limit of the process's control groups; `None` where nothing limits it.
    pub limit: Option<Limit>,
    /// The machine's memory; `None` where the system does not say.
    pub ram: Option<ByteSize>,
    /// The cores that the process may use, at least 1.
    pub cores: usize,
    /// Where temporary files go by default: `$TMPDIR`, else `/var/tmp`, else `/tmp`.
    pub temporary_directory: PathBuf,
}

/// A control group's memory limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The limit.
    pub size: ByteSize,
    /// The file that states it.
    pub file: PathBuf,
}

/// cgroup v1 writes the largest multiple of its page size below 2^63 where there is no limit.
const UNLIMITED_FROM: u64 = 1 << 62;

impl Container {
    /// The container this process runs in.
    ///
    /// # Errors
    /// A limit that is there but cannot be read: a plan that ignored it would be killed.
    pub fn detect() -> Result<Self> {
        let mut container = Container::at(Path::new("/"))?;
        container.cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        if let Some(directory) = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty()) {
            container.temporary_directory = directory.into();
        }
        Ok(container)
    }

    /// The container that the files below `root` describe, with one core.
    ///
    /// # Errors
    /// As [`Container::detect`].
    pub fn at(root: &Path) -> Result<Self> {
        // /tmp is often memory; /var/tmp is meant for what is large and lives longer.
        let temporary_directory = if below(root, "/var/tmp").is_dir() {
            "/var/tmp"
        } else {
            "/tmp"
        };
        Ok(Container {
            limit: memory_limit(root)?,
            ram: ram(root)?,
            cores: 1,
            temporary_directory: temporary_directory.into(),
        })
    }

    /// The smaller of limit and RAM, with the name of the one that it is; `None` where neither is known.
    pub fn available(&self) -> Option<(ByteSize, String)> {
        let limit = self
            .limit
            .as_ref()
            .map(|limit| (limit.size, limit.file.display().to_string()));
        let ram = self.ram.map(|size| (size, "the machine's RAM".to_string()));
        limit.into_iter().chain(ram).min_by_key(|(size, _)| *size)
    }
}

/// The machine's memory after `/proc/meminfo`.
fn ram(root: &Path) -> Result<Option<ByteSize>> {
    let file = below(root, "/proc/meminfo");
    let Some(text) = read(&file)? else { return Ok(None) };
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok());
    match kib.and_then(|kib: u64| kib.checked_mul(KIB)) {
        Some(bytes) => Ok(Some(ByteSize(bytes))),
        None => Err(Error::config(format!(
            "{}: no \"MemTotal: … kB\" line; set memory.process_size",
            file.display()
        ))),
    }
}

fn memory_limit(root: &Path) -> Result<Option<Limit>> {
    let mut smallest: Option<Limit> = None;
    for (version, directory) in memory_groups(root)? {
        for limit in version.limits(&directory)? {
            if smallest
                .as_ref()
                .is_none_or(|smallest| limit.size < smallest.size)
            {
                smallest = Some(limit);
            }
        }
    }
    Ok(smallest)
}

/// The directories of the process's memory control groups, each followed by its parents up to the mount.
///
/// # Errors
/// `/proc/self/cgroup` or `/proc/self/mountinfo` is there but cannot be read.
pub(crate) fn memory_groups(root: &Path) -> Result<Vec<(Version, PathBuf)>> {
    let Some(groups) = read(&below(root, "/proc/self/cgroup"))? else {
        return Ok(Vec::new());
    };
    let Some(mounts) = read(&below(root, "/proc/self/mountinfo"))? else {
        return Ok(Vec::new());
    };
    let mut directories = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.version.group(line)) else {
            continue;
        };
        let top = below(root, &mount.point);
        let mut directory = top.join(mount.relative(group));
        loop {
            directories.push((mount.version, directory.clone()));
            if directory == top || !directory.pop() {
                break;
            }
        }
    }
    Ok(directories)
}

/// The generation of a control group hierarchy: their files differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Version {
    /// The group that a line of `/proc/self/cgroup` (`hierarchy:controllers:path`) puts the process in.
    fn group(self, line: &str) -> Option<&str> {
        let mut fields = line.splitn(3, ':');
        let (_hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match self {
            Version::V1 => controllers.split(',').any(|controller| controller == "memory"),
            Version::V2 => controllers.is_empty(),
        };
        matches.then_some(path)
    }

    /// The limits that a group states itself; a file that is absent (the root group's, or a group without
    /// the memory controller) states none.
    fn limits(self, directory: &Path) -> Result<Vec<Limit>> {
        let mut limits = Vec::new();
        let mut add = |name: &str, find: fn(&str) -> Option<&str>| -> Result<()> {
            let file = directory.join(name);
            let Some(text) = read(&file)? else { return Ok(()) };
            let Some(value) = find(&text) else { return Ok(()) };
            if value == "max" {
                return Ok(());
            }
            let bytes: u64 = value.parse().map_err(|_| {
                Error::config(format!(
                    "{}: the memory limit \"{value}\" is neither a number nor \"max\"; set memory.process_size \
                     only after the container's limit reads as one",
                    file.display()
                ))
            })?;
            if bytes < UNLIMITED_FROM {
                limits.push(Limit {
                    size: ByteSize(bytes),
                    file,
                });
            }
            Ok(())
        };
        match self {
            Version::V2 => {
                add("memory.max", |text| Some(text.trim()))?;
                add("memory.high", |text| Some(text.trim()))?;
            }
            Version::V1 => {
                add("memory.limit_in_bytes", |text| Some(text.trim()))?;
                add("memory.stat", |text| {
                    text.lines()
                        .find_map(|line| line.strip_prefix("hierarchical_memory_limit "))
                        .map(str::trim)
                })?;
            }
        }
        Ok(limits)
    }
}

/// A mounted cgroup hierarchy that may hold memory limits.
struct Mount {
    version: Version,
    /// The group that the mount shows as its root.
    root: String,
    /// Where it is mounted.
    point: String,
}

impl Mount {
    /// A line of mountinfo: `id parent major:minor root point options … - type source super_options`.
    fn parse(line: &str) -> Option<Mount> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = filesystem.split(' ');
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next().unwrap_or(""));
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        Some(Mount {
            version,
            root: unescape(root),
            point: unescape(point),
        })
    }

    /// Where `group` is below the mount point. A group outside of what the mount shows (a container with the
    /// host's view of /proc) is the mount's own root, as far as can be seen.
    fn relative<'a>(&self, group: &'a str) -> &'a str {
        let rest = if self.root == "/" {
            Some(group)
        } else {
            group.strip_prefix(self.root.as_str())
        };
        match rest {
            Some(rest) if (rest.is_empty() || rest.starts_with('/')) && !rest.contains("/..") => {
                rest.trim_start_matches('/')
            }
            _ => "",
        }
    }
}

/// mountinfo writes space, tab, newline and backslash as `\040`, `\011`, `\012`, `\134`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// The absolute path `path` below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The text of a file, or `None` where there is no such file.
fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io(format!("cannot read {}", file.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A made-up file system, removed when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(files: &[(&str, &str)]) -> Tree {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let root =
                std::env::temp_dir().join(format!("forebay-container-{}-{number}", std::process::id()));
            let tree = Tree(root);
            for (path, text) in files {
                let file = below(&tree.0, path);
                std::fs::create_dir_all(file.parent().expect("files are below the root")).unwrap();
                std::fs::write(file, text).unwrap();
            }
            tree
        }

        fn container(&self) -> Container {
            Container::at(&self.0).unwrap()
        }

        fn limit(&self) -> Option<(u64, String)> {
            let limit = self.container().limit?;
            let file = limit.file.strip_prefix(&self.0).unwrap().display().to_string();
            Some((limit.size.bytes(), file))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       24689764 kB\nMemFree:  100 kB\n");
    const V2_MOUNT: (&str, &str) = (
        "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
    );
    const V1_MOUNT: (&str, &str) = (
        "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
         32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    );

    #[test]
    fn nothing_known_is_nothing() {
        let container = Tree::new(&[]).container();
        assert_eq!(container.limit, None);
        assert_eq!(container.ram, None);
        assert_eq!(container.available(), None);
        assert_eq!(container.temporary_directory, Path::new("/tmp"));
    }

    #[test]
    fn ram_comes_from_meminfo() {
        let container = Tree::new(&[MEMINFO, ("/var/tmp/x", "")]).container();
        assert_eq!(container.ram, Some(ByteSize(24_689_764 * 1024)));
        assert_eq!(container.available().unwrap().1, "the machine's RAM");
        assert_eq!(container.temporary_directory, Path::new("/var/tmp"));
        let error = Container::at(&Tree::new(&[("/proc/meminfo", "MemFree: 1 kB")]).0)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no \"MemTotal: … kB\" line; set memory.process_size"),
            "{error}"
        );
    }

    #[test]
    fn v2_takes_the_smallest_limit_of_the_group_and_its_parents() {
        let group = ("/proc/self/cgroup", "0::/pod/app\n");
        let tree = Tree::new(&[
            MEMINFO,
            V2_MOUNT,
            group,
            ("/sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "1073741824\n"),
        ]);
        assert_eq!(
            tree.limit(),
            Some((1 << 30, "sys/fs/cgroup/pod/memory.max".into()))
        );
        assert_eq!(tree.container().available().unwrap().0, ByteSize::gib(1));

        let tree = Tree::new(&[
            V2_MOUNT,
            group,
            ("/sys/fs/cgroup/pod/app/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/pod/app/memory.high", "536870912\n"),
            ("/sys/fs/cgroup/pod/memory.max", "1073741824\n"),
        ]);
        assert_eq!(
            tree.limit(),
            Some((512 << 20, "sys/fs/cgroup/pod/app/memory.high".into()))
        );
    }

    #[test]
    fn v2_without_a_limit_is_unlimited() {
        let tree = Tree::new(&[
            MEMINFO,
            V2_MOUNT,
            ("/proc/self/cgroup", "0::/a\n"),
            ("/sys/fs/cgroup/a/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.high", "max\n"),
        ]);
        assert_eq!(tree.limit(), None);
        assert_eq!(tree.container().available().unwrap().1, "the machine's RAM");
    }

    #[test]
    fn v2_in_a_container_reads_the_mount_itself() {
        for (mount_root, group) in [
            ("/docker/abc", "/docker/abc"),
            ("/", "/"),
            ("/docker/abc", "/"),
            ("/", "/../b"),
        ] {
            let mounts = format!("31 23 0:28 {mount_root} /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
            let tree = Tree::new(&[
                ("/proc/self/mountinfo", &mounts),
                ("/proc/self/cgroup", &format!("0::{group}\n")),
                ("/sys/fs/cgroup/memory.max", "4096\n"),
            ]);
            assert_eq!(
                tree.limit(),
                Some((4096, "sys/fs/cgroup/memory.max".into())),
                "{mount_root} {group}"
            );
        }
    }

    #[test]
    fn v1_walks_up_and_knows_its_huge_number() {
        let groups = (
            "/proc/self/cgroup",
            "4:memory:/pod/app\n1:cpu,cpuacct:/other\n0::/\n",
        );
        let tree = Tree::new(&[
            V1_MOUNT,
            groups,
            (
                "/sys/fs/cgroup/memory/pod/app/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "2147483648\n"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(
            tree.limit(),
            Some((2 << 30, "sys/fs/cgroup/memory/pod/memory.limit_in_bytes".into()))
        );

        let tree = Tree::new(&[
            V1_MOUNT,
            groups,
            // 64 KiB pages round the huge number otherwise.
            (
                "/sys/fs/cgroup/memory/pod/app/memory.limit_in_bytes",
                "9223372036854710272\n",
            ),
        ]);
        assert_eq!(tree.limit(), None);
    }

    #[test]
    fn v1_sees_the_limit_of_parents_that_the_mount_hides() {
        let tree = Tree::new(&[
            (
                "/proc/self/mountinfo",
                "35 31 0:32 /kubepods/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("/proc/self/cgroup", "4:memory:/kubepods/x\n"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "cache 1\nhierarchical_memory_limit 1048576\nrss 2\n",
            ),
        ]);
        assert_eq!(
            tree.limit(),
            Some((1 << 20, "sys/fs/cgroup/memory/memory.stat".into()))
        );
    }

    #[test]
    fn hybrid_takes_the_smaller_of_both_hierarchies() {
        let mounts = format!(
            "{}41 31 0:38 / /sys/fs/cgroup/unified\\040x rw - cgroup2 cgroup2 rw\n",
            V1_MOUNT.1
        );
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", &mounts),
            ("/proc/self/cgroup", "4:memory:/a\n0::/b\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "3000\n"),
            ("/sys/fs/cgroup/unified x/b/memory.max", "2000\n"),
        ]);
        assert_eq!(
            tree.limit(),
            Some((2000, "sys/fs/cgroup/unified x/b/memory.max".into()))
        );
    }

    #[test]
    fn a_limit_that_cannot_be_read_is_an_error() {
        let tree = Tree::new(&[
            V2_MOUNT,
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "lots\n"),
        ]);
        let error = Container::at(&tree.0).unwrap_err().to_string();
        assert!(
            error.contains("memory.max: the memory limit \"lots\" is neither a number nor \"max\""),
            "{error}"
        );
    }

    #[test]
    fn this_process_has_a_container() {
        let container = Container::detect().unwrap();
        assert!(container.cores >= 1);
        let (available, _) = container
            .available()
            .expect("Linux says how much memory there is");
        assert!(available > ByteSize::mib(16), "{available}");
    }
}
