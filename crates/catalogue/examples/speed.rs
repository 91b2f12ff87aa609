//! How long a tool takes to grade: `cargo run --release -p callgate-catalogue --example speed -- DIRECTORY`.
//!
//! The directory holds captures, a JSON file each: `{"server", "tools"}`. They are read first, and then every tool graded, round
//! after round; the quickest round counts, since the others had to share the processor.

use json::{Document, Strictness, Value};
use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("say where captures are")?;
    let captures = captures(Path::new(&directory))?;
    let tools: Vec<(String, Value<'_>)> = captures.iter().flat_map(of_capture).collect();
    println!("{} tools of {} captures", tools.len(), captures.len());
    report(
        "grade",
        tools.len(),
        quickest(|| {
            for (server, tool) in &tools {
                black_box(catalogue::grade(*tool, server));
            }
        }),
    );
    let slowest = tools
        .iter()
        .map(|(server, tool)| (quickest(|| drop(black_box(catalogue::grade(*tool, server)))), tool))
        .max_by_key(|(took, _)| *took);
    if let Some((took, tool)) = slowest {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        println!("slowest: {name}, {:.0} µs, {} bytes", took.as_secs_f64() * 1e6, tool.raw().len());
    }
    Ok(())
}

fn captures(directory: &Path) -> Result<Vec<Document>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |file: &PathBuf| Ok(Document::parse(std::fs::read(file)?, Strictness::Reply).map_err(|error| error.to_string())?);
    files.iter().map(read).collect()
}

fn of_capture(capture: &Document) -> Vec<(String, Value<'_>)> {
    let server = capture.root().get("server").and_then(Value::as_str).unwrap_or_default().into_owned();
    let tools = capture.root().get("tools").and_then(Value::elements).into_iter().flatten();
    tools.map(|tool| (server.clone(), tool)).collect()
}

fn quickest(mut round: impl FnMut()) -> Duration {
    let once = |_| {
        let begun = Instant::now();
        round();
        begun.elapsed()
    };
    (0..ROUNDS).map(once).min().unwrap_or_default()
}

fn report(what: &str, tools: usize, took: Duration) {
    println!("{what}: {:.1} µs a tool", took.as_secs_f64() * 1e6 / tools.max(1) as f64);
}
