//! Scenarios: read from TOML, and made flat for the players.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Keys a step's message may be repeated by; the players see the repetition alone.
const TIMES: &str = "times";

/// What a scenario claims, and the script that shows it.
#[derive(Debug)]
pub struct Scenario {
    pub name: String,
    pub claim: String,
    /// Languages it leaves out, and why.
    pub skip: BTreeMap<String, String>,
    /// The options' line, then one a step.
    pub script: Vec<String>,
}

impl Scenario {
    /// Reads a scenario; the file's name is the scenario's.
    ///
    /// # Errors
    /// What the file has that a scenario has not.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(name, &text)
    }

    /// Makes a scenario of its text.
    ///
    /// # Errors
    /// As [`Scenario::read`].
    pub fn parse(name: String, text: &str) -> Result<Self, String> {
        let mut table: Table = text.parse().map_err(|error| format!("{error}"))?;
        let Some(Value::String(claim)) = table.remove("claim") else {
            return Err("it claims nothing".into());
        };
        let options = match table.remove("options") {
            None => Table::new(),
            Some(Value::Table(options)) => options,
            Some(_) => return Err("its options are no table".into()),
        };
        let skip = match table.remove("skip") {
            None => BTreeMap::new(),
            Some(skip) => skip.try_into().map_err(|_| "skip is not a table of texts")?,
        };
        let Some(Value::Array(steps)) = table.remove("step") else {
            return Err("it has no steps".into());
        };
        if let Some(key) = table.keys().next() {
            return Err(format!("it has a key {key} that no scenario has"));
        }
        let mut script = vec![line(&Value::Table(options))?];
        for step in &steps {
            if !step.get("do").is_some_and(Value::is_str) {
                return Err(format!("step {} does nothing", script.len() - 1));
            }
            script.push(line(step)?);
        }
        Ok(Self { name, claim, skip, script })
    }

    /// The numbers of the steps that kill the player.
    pub fn kills(&self) -> Vec<usize> {
        let steps = self.script.iter().skip(1).enumerate();
        let kills = steps.filter(|(_, line)| line.split('\t').any(|pair| pair == "do=kill"));
        kills.map(|(number, _)| number).collect()
    }
}

/// All scenarios of a directory, in the order of their names.
pub fn scenarios(directory: &Path) -> Vec<Scenario> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    paths.sort();
    let read = |path: PathBuf| match Scenario::read(&path) {
        Ok(scenario) => scenario,
        Err(what) => panic!("{}: {what}", path.display()),
    };
    paths.into_iter().map(read).collect()
}

/// A table as a line: `key=value`, with tabs between, and what it does first.
fn line(table: &Value) -> Result<String, String> {
    let mut pairs = Vec::new();
    flatten("", table, &mut pairs)?;
    pairs.sort_by_key(|(key, _)| key != "do");
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    Ok(pairs.join("\t"))
}

fn flatten(path: &str, value: &Value, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let value = match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&below(key), value, pairs)?;
            }
            return Ok(());
        }
        Value::Array(list) => {
            let mut count = 0;
            for item in list {
                let (item, times) = repeated(item)?;
                for _ in 0..times {
                    flatten(&below(&count.to_string()), &item, pairs)?;
                    count += 1;
                }
            }
            pairs.push((below("#"), count.to_string()));
            return Ok(());
        }
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(_) => return Err(format!("{path} is a date, which no step takes")),
    };
    pairs.push((path.to_owned(), value));
    Ok(())
}

/// An item of a list, and how many it stands for.
fn repeated(item: &Value) -> Result<(Value, usize), String> {
    let mut item = item.clone();
    let times = item.as_table_mut().and_then(|table| table.remove(TIMES));
    let times = match times {
        None => 1,
        Some(times) => {
            let times = times.as_integer().and_then(|times| times.try_into().ok());
            times.ok_or_else(|| format!("{TIMES} is not a count"))?
        }
    };
    Ok((item, times))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}
