//! The answers that the TPC-H specification publishes for scale factor 1, and the comparison of a result with them.
//!
//! The answers are those of the official distribution, which the crate `tpchgen` carries (`tpchgen::q_and_a`).
//!
//! # Algorithm
//! The specification (3.0.1, clause 2.1.3.5) wants counts and single column values equal, sums within $100, and averages and ratios
//! within 1 %. Results here are exact, so they are held to what is printed: a number may differ from the published one by half a
//! unit of its last digit, a text not at all but for blanks around it.

use super::Value;
use forebay::record::Decimal;
use forebay_memory::{Error, Result};
use tpchgen::q_and_a::answers_sf1::answer;

/// Compares the rows of a query's result, in order, with the published ones.
///
/// # Errors
/// `Corrupt`, naming the first value that is not the published one.
pub fn check(query: i32, rows: impl ExactSizeIterator<Item = Vec<Value>>) -> Result<()> {
    let wrong = |what: String| Err(Error::corrupt(format!("tpch-q{query}: {what}")));
    let published = published(query);
    if rows.len() != published.len() {
        return wrong(format!(
            "{} rows where {} are published",
            rows.len(),
            published.len()
        ));
    }
    for (number, (row, published)) in (1..).zip(rows.zip(published)) {
        if row.len() != published.len() {
            return wrong(format!(
                "row {number}: {} columns, not {}",
                row.len(),
                published.len()
            ));
        }
        for (value, published) in row.iter().zip(published) {
            if !is_equal(value, published) {
                return wrong(format!("row {number}: {value} is not {published}, as published"));
            }
        }
    }
    Ok(())
}

/// The published rows: what is between the bars, without blanks around it.
fn published(query: i32) -> Vec<Vec<&'static str>> {
    let text = answer(query).expect("the queries that are run have answers");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    // The first line has the names of columns.
    lines
        .skip(1)
        .map(|line| line.split('|').map(str::trim).collect())
        .collect()
}

fn is_equal(value: &Value, published: &str) -> bool {
    match value {
        Value::Text(text) => text.trim() == published,
        Value::Exact(number) => is_rounded(*number, published),
        // Floats are quotients of exact sums: 53 bits are far more than is printed.
        Value::Float(number) => {
            let digits = published.split_once('.').map_or(0, |(_, digits)| digits.len());
            published
                .parse::<f64>()
                .is_ok_and(|published| (number - published).abs() <= 0.5001 * 10f64.powi(-(digits as i32)))
        }
    }
}

/// Whether `published` is `number` rounded to as many digits as it has.
fn is_rounded(number: Decimal, published: &str) -> bool {
    let Ok(published) = published.parse::<Decimal>() else {
        return false;
    };
    let Some(difference) = number.checked_sub(published) else {
        return false;
    };
    let half = Decimal::new(5, published.scale() + 1);
    difference <= half && Decimal::new(-half.units(), half.scale()) <= difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_held_to_the_digits_published() {
        let exact = |text: &str| Value::Exact(text.parse().expect("a decimal"));
        assert!(is_equal(&exact("123141078.2283"), "123141078.23"));
        assert!(is_equal(&exact("-0.005"), "-0.01") && is_equal(&exact("7"), "7"));
        assert!(!is_equal(&exact("123141078.2249"), "123141078.23"));
        assert!(!is_equal(&exact("7"), "8") && !is_equal(&exact("7"), "seven"));
        assert!(is_equal(&Value::Float(25.522005853257337), "25.52"));
        assert!(!is_equal(&Value::Float(25.53), "25.52") && !is_equal(&Value::Float(f64::NAN), "25.52"));
        assert!(is_equal(&Value::Text(" a b".into()), "a b") && !is_equal(&Value::Text("a".into()), "a b"));
    }

    #[test]
    fn answers_are_published_and_others_are_told_apart() {
        assert_eq!(published(6), [["123141078.23"]]);
        assert_eq!(published(1).len(), 4);
        assert_eq!(published(13).last().expect("42 rows"), &["39", "1"]);
        let row = |text: &str| vec![vec![Value::Exact(text.parse().expect("a decimal"))]].into_iter();
        check(6, row("123141078.2283")).expect("it is the answer");
        let refused = check(6, row("123141079.00")).expect_err("a dollar more");
        assert!(
            refused.to_string().contains("123141079.00 is not 123141078.23"),
            "{refused}"
        );
        assert!(check(6, Vec::new().into_iter()).is_err());
        assert!(check(6, vec![vec![]].into_iter()).is_err());
    }
}
