//! `compare A.json B.json`: which results of two files differ by more than their spread.

use crate::result::{self, RunResult, Spread};
use crate::table::{self, Align};
use forebay_memory::{Error, Result};
use std::path::Path;

/// Prints a table of the results that both files have.
///
/// # Errors
/// Where a file is unreadable or no file of results, or the two have no setting in common.
pub fn compare(first: &Path, second: &Path) -> Result<()> {
    table::show(&report(&result::read(first)?, &result::read(second)?)?)
}

/// The comparison as text.
fn report(first: &[RunResult], second: &[RunResult]) -> Result<String> {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for a in first {
        let identity = a.identity();
        let Some(b) = second
            .iter()
            .find(|b| b.identity() == identity && b.engine == a.engine)
        else {
            notes.push(format!("only in A: {identity}"));
            continue;
        };
        let (Some(of_a), Some(of_b)) = (Spread::of(&a.seconds), Spread::of(&b.seconds)) else {
            continue;
        };
        let ratio = of_a.median / of_b.median;
        let verdict = if of_a.overlaps(of_b) {
            "ranges overlap: no difference shown".to_string()
        } else if ratio > 1.0 {
            format!("B is {ratio:.2}× as fast")
        } else {
            format!("A is {:.2}× as fast", 1.0 / ratio)
        };
        if a.result_hash != b.result_hash {
            notes.push(format!(
                "results differ, so the input was another, or one of them is wrong: {identity}: {} and {}",
                a.result_hash, b.result_hash
            ));
        }
        rows.push(vec![
            identity,
            range(of_a, a.repeats),
            range(of_b, b.repeats),
            format!("{ratio:.3}"),
            verdict,
        ]);
    }
    for b in second {
        if !first
            .iter()
            .any(|a| a.identity() == b.identity() && a.engine == b.engine)
        {
            notes.push(format!("only in B: {}", b.identity()));
        }
    }
    if rows.is_empty() {
        return Err(Error::config(
            "compare: the two files have no workload and setting in common; run both with the same options",
        ));
    }
    let header = [
        ("workload and setting", Align::Left),
        ("A median [least–most]", Align::Right),
        ("B median [least–most]", Align::Right),
        ("A/B", Align::Right),
        ("", Align::Left),
    ];
    let mut text = table::render(&header, &rows);
    for note in notes {
        text += &note;
        text.push('\n');
    }
    Ok(text)
}

fn range(spread: Spread, repeats: usize) -> String {
    format!(
        "{:.4} s [{:.4}–{:.4}] ×{repeats}",
        spread.median, spread.least, spread.most
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workload: &str, seconds: &[f64]) -> RunResult {
        RunResult {
            workload: workload.into(),
            seconds: seconds.to_vec(),
            repeats: seconds.len(),
            ..RunResult::default()
        }
    }

    #[test]
    fn ratios_and_overlaps_are_said() {
        let first = [
            of("slower", &[2.0, 2.2, 2.1]),
            of("same", &[1.0, 1.2]),
            of("gone", &[1.0]),
        ];
        let second = [
            of("slower", &[1.0, 1.1, 1.05]),
            of("same", &[1.1, 1.3]),
            of("new", &[1.0]),
        ];
        let text = report(&first, &second).expect("two in common");
        assert!(
            text.contains("2.000") && text.contains("B is 2.00× as fast"),
            "{text}"
        );
        assert!(text.contains("ranges overlap"), "{text}");
        assert!(
            text.contains("only in A: gone") && text.contains("only in B: new"),
            "{text}"
        );
    }

    #[test]
    fn other_results_of_the_same_input_are_said() {
        let other = RunResult {
            result_hash: "1".into(),
            ..of("sum", &[1.0])
        };
        assert!(
            report(&[of("sum", &[1.0])], &[other])
                .expect("one in common")
                .contains("results differ")
        );
    }

    #[test]
    fn nothing_in_common_is_an_error() {
        assert!(report(&[of("a", &[1.0])], &[of("b", &[1.0])]).is_err());
    }
}
