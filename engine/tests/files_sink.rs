//! File sinks: what they write is read back equal, appears whole or not at all, and every error they answer.

mod files_support;

use files_support::{Scratch, environment, names, read};
use forebay::ErrorKind;
use forebay::record::{BytesText, Date, Decimal, Record, Timestamp};
use forebay::sink::FileSink;
use forebay::source::{csv, from_items, generate, text};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn text_is_written_in_parts_and_read_back() {
    for parallelism in [1, 3] {
        let scratch = Scratch::new("out");
        let directory = scratch.path("new/out");
        let environment = environment(parallelism);
        environment
            .source("lines", generate(5000, |index| format!("line {index}")))
            .rebalance()
            .sink("text", FileSink::text(&directory).roll_at(10_000).sync());
        environment.execute("write").expect("the job runs");
        let files = names(&directory);
        for subtask in 0..parallelism {
            let own: Vec<_> = (0..)
                .map(|number| format!("part-{subtask}-{number}"))
                .take_while(|name| files.contains(name))
                .collect();
            assert!((2..=8).contains(&own.len()), "{files:?}");
            for name in &own[..own.len() - 1] {
                let size = fs::metadata(directory.join(name))
                    .expect("the file is there")
                    .len();
                assert!((10_000..10_020).contains(&size), "{name}: {size}");
            }
        }
        assert!(files.iter().all(|name| name.starts_with("part-")), "{files:?}");
        let mut found = read(text(scratch.pattern("new/out/*")), 2).expect("the files are read");
        let mut expected: Vec<String> = (0..5000).map(|index| format!("line {index}")).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Every {
    a: u8,
    b: i128,
    d: f64,
    e: bool,
    at: Timestamp,
    day: Date,
    amount: Decimal,
    name: String,
    raw: Vec<u8>,
    maybe: Option<String>,
    inner: (Option<i64>, u16),
}

#[test]
fn csv_is_read_back_equal() {
    let texts = [
        "",
        "plain",
        "a,b",
        "say \"so\"",
        "two\nlines",
        "\r",
        " blanks ",
        "NULL",
        "'",
        ";",
        "日本 🌊",
    ];
    let records: Vec<Every> = (0..texts.len() * 3)
        .map(|index| Every {
            a: index as u8,
            b: i128::MIN + index as i128,
            d: [0.1, -1e300, f64::MIN_POSITIVE][index % 3],
            e: index % 2 == 0,
            at: Timestamp::from_millis(index as i64 * 86_399_999 - 1_000_000),
            day: Date::from_days(index as i32 * 1000 - 10_000),
            amount: Decimal::new(index as i128 * 37 - 100, 2),
            name: texts[index % texts.len()].into(),
            raw: vec![index as u8; index % 5],
            maybe: (index % 3 > 0).then(|| texts[index / 3 % texts.len()].into()),
            inner: ((index % 4 > 0).then_some(-(index as i64)), index as u16),
        })
        .collect();
    for (index, parallelism) in [1, 2, 1, 2].into_iter().enumerate() {
        let scratch = Scratch::new("csv");
        let mut sink = FileSink::csv::<Every>(scratch.path("out")).roll_at(500);
        let mut source = csv::<Every>(scratch.pattern("out/*.csv"));
        if index >= 2 {
            sink = sink
                .delimiter(';')
                .quote('\'')
                .null("NULL")
                .bytes(BytesText::Base64)
                .without_header();
            source = source
                .delimiter(';')
                .quote('\'')
                .null("NULL")
                .bytes(BytesText::Base64)
                .without_header();
        }
        let environment = environment(parallelism);
        environment
            .source("records", from_items(records.clone()))
            .sink("csv", sink);
        environment.execute("write").expect("the job runs");
        assert!(scratch.names("out").len() > 3);
        let mut found = read(source, 2).expect("the files are read");
        found.sort_by_key(|record| record.a);
        assert_eq!(found, records);
    }
}

#[test]
fn csv_lies_as_documented() {
    let scratch = Scratch::new("lies");
    let environment = environment(1);
    let records: Vec<(Option<String>, i64)> = vec![
        (None, -1),
        (Some(String::new()), 0),
        (Some("a\"b".into()), 1),
        (Some(" a".into()), 2),
        (Some("é".into()), 3),
    ];
    environment
        .source("records", from_items(records))
        .sink("csv", FileSink::csv(scratch.path("out")));
    environment
        .source("alone", from_items(vec![String::new(), "x".into()]))
        .sink("one", FileSink::csv(scratch.path("one")));
    environment.execute("write").expect("the job runs");
    let content = |name| fs::read_to_string(scratch.path(name)).expect("the file is there");
    assert_eq!(
        content("out/part-0-0.csv"),
        "0,1\n,-1\n\"\",0\n\"a\"\"b\",1\n\" a\",2\né,3\n"
    );
    assert_eq!(content("one/part-0-0.csv"), "value\n\"\"\nx\n");
}

#[test]
fn a_function_formats_records() {
    let scratch = Scratch::new("format");
    let environment = environment(1);
    let sink = FileSink::text_with::<(u64, String), _>(scratch.path("out"), |(count, word), line| {
        line.push_str(&format!("{count:>3} {word}"));
    });
    let records = vec![(1, "a".to_string()), (20, "b".to_string())];
    environment
        .source("records", from_items(records))
        .sink("text", sink.suffix(".txt"));
    environment.execute("write").expect("the job runs");
    let content = fs::read_to_string(scratch.path("out/part-0-0.txt")).expect("the file is there");
    assert_eq!(content, "  1 a\n 20 b\n");
}

fn write(sink: FileSink<forebay::sink::TextLines>, parallelism: usize, lines: u64) -> forebay::Result<()> {
    let environment = environment(parallelism);
    environment
        .source("lines", generate(lines, |index| format!("line {index}")))
        .rebalance()
        .sink("text", sink);
    let result = environment.execute("write").map(|_| ());
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    result
}

#[test]
fn what_a_directory_has_is_refused_replaced_or_kept() {
    let scratch = Scratch::new("existing");
    let out = || FileSink::text(scratch.path("out"));
    write(out().roll_at(100), 2, 100).expect("the directory is new");
    let before = scratch.names("out");
    assert!(before.len() > 6, "{before:?}");
    let error = write(out(), 2, 10).expect_err("the directory has files");
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = scratch.mask(&error.to_string());
    assert!(
        message.starts_with("file sink: directory \"DIR/out\" is not empty: it has \"part-"),
        "{message}"
    );
    assert!(
        message.ends_with("\"; name another, or choose overwrite() or append()"),
        "{message}"
    );
    assert_eq!(scratch.names("out"), before);

    write(out().append(), 1, 10).expect("files are added");
    let appended: Vec<String> = scratch
        .names("out")
        .into_iter()
        .filter(|name| !before.contains(name))
        .collect();
    assert_eq!(appended.len(), 1);
    assert_eq!(
        read(text(scratch.pattern("out/*")), 1)
            .expect("the files are read")
            .len(),
        110
    );

    write(out().overwrite(), 1, 10).expect("files are replaced");
    assert_eq!(scratch.names("out"), ["part-0-0"]);
    assert_eq!(
        read(text(scratch.pattern("out/*")), 1)
            .expect("the file is read")
            .len(),
        10
    );

    scratch.write("out/mine.txt", "mine");
    let error = write(out().overwrite(), 1, 10).expect_err("the file is the user's");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "file sink: directory \"DIR/out\" has \"mine.txt\", which no file sink wrote, so that overwrite() does not \
         remove it; name another directory, or move the file"
    );
    assert_eq!(scratch.names("out"), ["mine.txt", "part-0-0"]);
    // A hidden file of another job is nobody's business.
    scratch.write("hidden/.x", "");
    write(FileSink::text(scratch.path("hidden")), 1, 1).expect("the directory has nothing to see");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_an_error() {
    let scratch = Scratch::new("file");
    scratch.write("out", "a file");
    let error = write(FileSink::text(scratch.path("out")), 1, 10).expect_err("it is a file");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "file sink: cannot enter directory \"DIR/out\": Not a directory (os error 20)"
    );
    let error =
        write(FileSink::text(scratch.path("out/below")), 1, 10).expect_err("a file has nothing below");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "file sink: cannot make directory \"DIR/out/below\": Not a directory (os error 20)"
    );
}

#[test]
fn files_that_cannot_have_their_names_are_not_published() {
    let scratch = Scratch::new("publish");
    // A directory in the place of the third file's name: found only when the files are to be published.
    scratch.write("out/.hidden", "");
    let blocker = scratch.path("out/part-0-2");
    let environment = environment(1);
    environment
        .source("lines", generate(100, |index| format!("line {index}")))
        .inspect(move |line: &str| {
            if line == "line 50" {
                fs::create_dir_all(blocker.join("x")).expect("a directory");
            }
        })
        .sink("text", FileSink::text(scratch.path("out")).roll_at(100));
    let error = environment.execute("write").expect_err("a name is taken");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "file sink: cannot rename a file to \"DIR/out/part-0-2\": Is a directory (os error 21)"
    );
    assert_eq!(scratch.names("out"), [".hidden", "part-0-2"]);
}

#[test]
fn overwriting_that_fails_half_way_leaves_the_old_files() {
    let scratch = Scratch::new("half-way");
    for number in 0..2 {
        scratch.write(&format!("out/part-0-{number}"), format!("old {number}"));
    }
    scratch.write("out/part-7-0", "old 7");
    let blocker = scratch.path("out/part-0-2");
    let environment = environment(1);
    environment
        .source("lines", generate(100, |index| format!("line {index}")))
        .inspect(move |line: &str| {
            if line == "line 50" {
                fs::create_dir_all(blocker.join("x")).expect("a directory");
            }
        })
        .sink(
            "text",
            FileSink::text(scratch.path("out")).roll_at(100).overwrite(),
        );
    let error = environment.execute("write").expect_err("a name is taken");
    assert!(error.to_string().contains("cannot rename a file to"), "{error}");
    assert_eq!(
        scratch.names("out"),
        ["part-0-0", "part-0-1", "part-0-2", "part-7-0"]
    );
    for (name, content) in [
        ("part-0-0", "old 0"),
        ("part-0-1", "old 1"),
        ("part-7-0", "old 7"),
    ] {
        let found = fs::read_to_string(scratch.path("out").join(name)).expect("it is there");
        assert_eq!(found, content);
    }
}

/// What a killed process leaves is removed by the next sink in the directory; what a living one writes is not.
#[test]
fn hidden_files_of_a_killed_process_are_removed_and_those_of_others_are_not() {
    const VARIABLE: &str = "FOREBAY_TEST_KILLED_DIRECTORY";
    let endless = |directory: &Path| {
        let environment = environment(2);
        environment
            .source("lines", generate(u64::MAX, |index| format!("line {index}")))
            .sink("text", FileSink::text(directory).roll_at(5000).append());
        environment.execute_async("endless").expect("the job starts")
    };
    let in_progress = |directory: &Path| {
        let is_hidden = |name: &String| name.ends_with(".in-progress");
        names(directory).into_iter().filter(is_hidden).collect::<Vec<_>>()
    };
    if let Ok(directory) = std::env::var(VARIABLE) {
        let job = endless(Path::new(&directory));
        while in_progress(Path::new(&directory)).len() < 4 {
            std::thread::yield_now();
        }
        println!("\nwriting");
        let _ = job.wait();
        return;
    }
    let scratch = Scratch::new("killed");
    let out = scratch.path("out");
    fs::create_dir_all(&out).expect("a scratch directory");
    let mut child = Command::new(std::env::current_exe().expect("the test's own program"))
        .args([
            "--exact",
            "hidden_files_of_a_killed_process_are_removed_and_those_of_others_are_not",
        ])
        .arg("--nocapture")
        .env(VARIABLE, &out)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the test runs itself");
    let said = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = std::io::BufRead::lines(said).map_while(Result::ok);
    assert!(lines.any(|line| line == "writing"), "the child writes");
    let living = endless(&out);
    child.kill().expect("the child runs");
    child.wait().expect("the child was started here");
    let dead: Vec<String> = in_progress(&out)
        .into_iter()
        .filter(|name| name.contains(&format!(".{:x}-", child.id())))
        .collect();
    assert!(dead.len() >= 4, "{dead:?}");
    while in_progress(&out).len() < dead.len() + 2 {
        std::thread::yield_now();
    }
    write(FileSink::text(&out).append(), 1, 10).expect("the directory is there");
    let left = names(&out);
    assert!(!left.iter().any(|name| dead.contains(name)), "{left:?}");
    assert!(!in_progress(&out).is_empty(), "the living job has lost its files");
    drop(living);
    assert_eq!(names(&out), ["part-0-0"], "one job has written all that it had");
}

#[test]
fn of_two_jobs_that_choose_the_same_names_the_second_fails_and_the_first_keeps_its_files() {
    for appends in [false, true] {
        let scratch = Scratch::new("same-names");
        if appends {
            scratch.write("out/part-0-0", "old");
        }
        let sink = || match appends {
            true => FileSink::text(scratch.path("out")).append(),
            false => FileSink::text(scratch.path("out")),
        };
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let slow = environment(1);
        slow.source("lines", generate(10, |index| format!("slow {index}")))
            .inspect(move |line: &str| {
                if line == "slow 5" {
                    let _ = released.lock().expect("one function holds it").recv();
                }
            })
            .sink("text", sink());
        let slow = slow.execute_async("slow").expect("the job starts");
        write(sink(), 1, 3).expect("nobody has written these names");
        release.send(()).expect("the function waits for this");
        let error = slow.wait().expect_err("its names are taken");
        assert!(
            error.to_string().contains("was written by somebody else"),
            "{error}"
        );
        let name = if appends { "part-0-1" } else { "part-0-0" };
        let found = fs::read_to_string(scratch.path("out").join(name)).expect("it is there");
        assert!(found.lines().count() == 3 && !found.contains("slow"), "{found}");
        assert_eq!(scratch.names("out").len(), 1 + usize::from(appends));
    }
}

#[test]
fn a_failed_job_leaves_nothing_and_what_was_there() {
    let scratch = Scratch::new("failed");
    let run = |sink: FileSink<forebay::sink::TextLines>| {
        let environment = environment(2);
        environment
            .source("lines", generate(20_000, |index| index))
            .rebalance()
            .map(|index| {
                assert!(index < 19_000, "a bad record");
                format!("line {index}")
            })
            .sink("text", sink.roll_at(5000));
        environment.execute("fails").expect_err("a function panics")
    };
    assert_eq!(run(FileSink::text(scratch.path("new"))).kind(), ErrorKind::User);
    assert!(!scratch.path("new").exists());
    scratch.write("old/part-0-0", "old");
    run(FileSink::text(scratch.path("old")).overwrite());
    assert_eq!(scratch.names("old"), ["part-0-0"]);
    assert_eq!(
        fs::read_to_string(scratch.path("old/part-0-0")).expect("it is there"),
        "old"
    );
    run(FileSink::text(scratch.path("old")).append());
    assert_eq!(scratch.names("old"), ["part-0-0"]);
}

/// Wherever a schedule ends, all files are there or none.
#[test]
fn simulated_jobs_publish_everything_or_nothing() {
    use forebay::simulator::Simulation;
    let scratch = Scratch::new("simulated");
    scratch.write("in.csv", format!("0,1\n{}", "a,\"b\nc\"\n".repeat(500)));
    let (mut whole, mut none) = (0, 0);
    for seed in 0..60 {
        let environment = environment(1 + seed as usize % 3);
        let out = scratch.path(&seed.to_string());
        environment
            .source("in", csv::<(String, String)>(scratch.path("in.csv")))
            .rebalance()
            .sink("out", FileSink::csv(&out).roll_at(1000));
        let simulation = Simulation {
            cancel_after: (seed % 2 == 0).then_some(seed * 2),
            ..Simulation::new(seed)
        };
        let result = environment.simulate("simulated", &simulation);
        match &result {
            // A job may be cancelled when its sink is through and others of its tasks are not: then all is there.
            Err(error) if !out.exists() => {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "seed {seed}: {error}");
                none += 1;
            }
            _ => {
                let pattern = scratch.pattern(&format!("{seed}/*"));
                let found = read(csv::<(String, String)>(pattern), 1).expect("the files are read");
                assert_eq!(
                    found,
                    vec![("a".to_string(), "b\nc".to_string()); 500],
                    "seed {seed}"
                );
                assert!(
                    scratch
                        .names(&seed.to_string())
                        .iter()
                        .all(|name| name.starts_with("part-"))
                );
                whole += 1;
            }
        }
        assert_eq!(environment.runtime().manager().outstanding(), 0, "seed {seed}");
    }
    assert!(whole > 20 && none > 5, "{whole} whole, {none} cancelled");
}

#[test]
fn a_cancelled_job_leaves_nothing() {
    use std::sync::mpsc::channel;
    let scratch = Scratch::new("cancelled");
    let environment = environment(2);
    let (sender, receiver) = channel();
    environment
        .source("lines", generate(u64::MAX, |index| format!("line {index}")))
        .inspect(move |_| sender.send(()).unwrap_or(()))
        .sink("text", FileSink::text(scratch.path("out")).roll_at(5000));
    let job = environment.execute_async("endless").expect("the job starts");
    (0..20_000).for_each(|_| receiver.recv().expect("the job writes"));
    job.cancel();
    assert_eq!(
        job.wait().expect_err("it was cancelled").kind(),
        ErrorKind::Cancelled
    );
    assert!(!scratch.path("out").exists());
}

/// The limit on a file's size, which only a process of its own can have, stands for a full disk: writes fail in the
/// middle.
#[test]
fn a_write_that_fails_is_an_io_error_that_leaves_nothing() {
    const VARIABLE: &str = "FOREBAY_TEST_LIMITED_DIRECTORY";
    if let Ok(directory) = std::env::var(VARIABLE) {
        let directory = Path::new(&directory);
        let error = write(FileSink::text(directory), 2, 100_000).expect_err("the limit is smaller");
        assert_eq!(error.kind(), ErrorKind::Io);
        let message = error.to_string();
        let start = format!("file sink: cannot write \"{}/part-", directory.display());
        assert!(message.starts_with(&start), "{message}");
        assert!(message.ends_with("File too large (os error 27)"), "{message}");
        assert!(!directory.exists());
        println!("the limited job failed as it should");
        return;
    }
    let scratch = Scratch::new("limited");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("the test's own program"))
        .args([
            "--exact",
            "a_write_that_fails_is_an_io_error_that_leaves_nothing",
            "--nocapture",
        ])
        .env(VARIABLE, scratch.path("out"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("the limited job failed as it should"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn records_larger_than_the_buffer_are_written() {
    let scratch = Scratch::new("large");
    let environment = environment(2);
    let lines: Vec<String> = (0..40).map(|index| "x".repeat(index * 700)).collect();
    environment
        .source("lines", from_items(lines.clone()))
        .sink("text", FileSink::text(scratch.path("out")));
    environment.execute("write").expect("the job runs");
    let mut found = read(text(scratch.pattern("out/*")), 1).expect("the files are read");
    found.sort();
    assert_eq!(found, lines);
}
