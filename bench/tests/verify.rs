//! The harness as a program: results compared with those of a process of its own.

use std::process::Command;

/// The names of so many files are longer together than an argument may be.
#[test]
fn the_result_of_thousands_of_files_is_verified() {
    let directory = std::env::temp_dir().join(format!("forebay-verify-{}", std::process::id()));
    let deep = directory.join("a-long-name".repeat(20));
    std::fs::create_dir_all(&deep).expect("the temporary directory is writable");
    let record: Vec<u8> = (0..100).collect();
    for file in 0..1000 {
        std::fs::write(deep.join(file.to_string()), &record).expect("writable");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_forebay-bench"))
        .args([
            "run",
            "sort-gensort",
            "--verify",
            "--no-limits",
            "--quiet",
            "--repeat",
            "1",
        ])
        .arg("--input")
        .arg(deep.join("*"))
        .arg("--output")
        .arg(directory.join("sorted"))
        .output()
        .expect("the harness is built");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1.00 K") && said.contains("= oracle"), "{said}");
    let sorted = std::fs::read(directory.join("sorted")).expect("it was written");
    assert_eq!(sorted, record.repeat(1000));
    std::fs::remove_dir_all(&directory).expect("removable");
}
