//! The plan: a job as data, which a person reads, a tool exports and another host could run.
//!
//! # Interface
//! [`JobPlan`] serializes with serde, both ways ([`JobPlan::to_json`], [`JobPlan::from_json`]); [`JobPlan::explain`], [`JobPlan::to_dot`] and [`JobPlan::to_mermaid`] print it.

use crate::record::Schema;
use forebay_memory::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// How rows get from one node's subtasks to the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeKind {
    /// To the subtask of the same index.
    Forward,
    /// To the subtask that owns the key's key group.
    Hash,
    /// To each subtask in turn.
    Rebalance,
    /// To all.
    Broadcast,
}

impl ExchangeKind {
    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeKind::Forward => "forward",
            ExchangeKind::Hash => "hash",
            ExchangeKind::Rebalance => "rebalance",
            ExchangeKind::Broadcast => "broadcast",
        }
    }
}

/// A source, operator or sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Index of the node in the plan.
    pub id: usize,
    /// What identifies it across versions of the job.
    pub uid: String,
    /// Whether the user gave the uid.
    pub has_own_uid: bool,
    /// Its name, unique in the job.
    pub name: String,
    /// `source`, `map`, `aggregate`, …
    pub kind: String,
    /// What the kind alone does not say.
    pub detail: String,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Managed segments that a subtask cannot do without.
    pub minimum_segments: usize,
    /// Its weight among those of its kind that share managed memory out.
    pub memory_weight: u32,
    /// The node whose task it runs in, right after it.
    pub chained_to: Option<usize>,
    /// The rows it sends.
    pub output: Option<Schema>,
}

/// Rows from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEdge {
    /// The sender's id.
    pub from: usize,
    /// The receiver's id.
    pub to: usize,
    /// How rows find their subtask.
    pub exchange: ExchangeKind,
    /// The key's fields, for a hash exchange.
    pub keys: Vec<String>,
    /// Which of the receiver's inputs it leads to.
    pub input: usize,
}

/// A job as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPlan {
    /// The job's name.
    pub job: String,
    /// `batch` or `streaming`.
    pub mode: String,
    /// The number of key groups.
    pub max_parallelism: u32,
    /// Nodes, inputs before their consumers.
    pub nodes: Vec<PlanNode>,
    /// Edges.
    pub edges: Vec<PlanEdge>,
}

impl JobPlan {
    fn label(edge: &PlanEdge) -> String {
        if edge.keys.is_empty() {
            edge.exchange.name().to_string()
        } else {
            format!("{} ({})", edge.exchange.name(), edge.keys.join(", "))
        }
    }

    /// The plan as text, a node a line, its inputs indented under it.
    pub fn explain(&self) -> String {
        let mut text = format!(
            "job \"{}\", {} mode, {} key groups\n",
            self.job, self.mode, self.max_parallelism
        );
        for node in &self.nodes {
            let chained = match node.chained_to {
                Some(_) => "  + ",
                None => "  ",
            };
            let _ = write!(
                text,
                "{chained}[{}] {} \"{}\" x {}",
                node.id, node.kind, node.name, node.parallelism
            );
            if !node.detail.is_empty() {
                let _ = write!(text, ": {}", node.detail);
            }
            if node.minimum_segments > 0 {
                let _ = write!(text, "; at least {} segments a subtask", node.minimum_segments);
            }
            if node.memory_weight != 1 {
                let _ = write!(text, ", memory weight {}", node.memory_weight);
            }
            text.push('\n');
            for edge in self
                .edges
                .iter()
                .filter(|edge| edge.to == node.id && node.chained_to.is_none())
            {
                let _ = writeln!(text, "      <- [{}] {}", edge.from, JobPlan::label(edge));
            }
        }
        text
    }

    /// The plan as a Graphviz digraph.
    pub fn to_dot(&self) -> String {
        let mut text = format!(
            "digraph \"{}\" {{\n  rankdir=LR; node [shape=box];\n",
            escape(&self.job)
        );
        for node in &self.nodes {
            let _ = writeln!(
                text,
                "  n{} [label=\"{}\\n{} x {}\"];",
                node.id,
                escape(&node.name),
                node.kind,
                node.parallelism
            );
        }
        for edge in &self.edges {
            let _ = writeln!(
                text,
                "  n{} -> n{} [label=\"{}\"];",
                edge.from,
                edge.to,
                escape(&JobPlan::label(edge))
            );
        }
        text.push_str("}\n");
        text
    }

    /// The plan as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let quoted = |text: &str| text.replace('"', "#quot;");
        for node in &self.nodes {
            let _ = writeln!(
                text,
                "  n{}[\"{}<br/>{} x {}\"]",
                node.id,
                quoted(&node.name),
                node.kind,
                node.parallelism
            );
        }
        for edge in &self.edges {
            let _ = writeln!(
                text,
                "  n{} -->|\"{}\"| n{}",
                edge.from,
                quoted(&JobPlan::label(edge)),
                edge.to
            );
        }
        text
    }

    /// A plan of what [`JobPlan::to_json`] has made.
    ///
    /// # Errors
    /// `Config` for text that is no plan, saying where.
    pub fn from_json(text: &str) -> Result<JobPlan> {
        serde_json::from_str(text)
            .map_err(|error| Error::config(format!("this is no plan of a job: {error}")))
    }

    /// The plan as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan has only string keys and finite numbers")
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
