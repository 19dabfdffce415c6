//! The report of a verification, as JavaScript has it.

use libmq::VerifyReport;
use napi::bindgen_prelude::Object;
use napi::{Env, Result};

/// The report as an object.
pub(crate) fn report_object<'env>(env: &'env Env, report: &VerifyReport) -> Result<Object<'env>> {
    let mut object = Object::new(env)?;
    object.set("sound", report.sound())?;
    object.set("messages", report.messages as f64)?;
    object.set("deadLetters", report.dead_letters as f64)?;
    object.set("suspects", report.suspects as f64)?;
    object.set("records", report.records as f64)?;
    object.set("droppedBytes", report.dropped_bytes as f64)?;
    object.set("segments", report.segments as f64)?;
    object.set("bytes", report.bytes as f64)?;
    object.set("snapshot", report.snapshot.map(|position| position as f64))?;
    object.set("closed", report.closed)?;
    let mut problems = env.create_array(0)?;
    for problem in &report.problems {
        let mut object = Object::new(env)?;
        object.set("kind", problem.kind.name())?;
        object.set("path", problem.path.to_string_lossy().into_owned())?;
        object.set("offset", problem.offset.map(|offset| offset as f64))?;
        object.set("text", problem.text.as_str())?;
        problems.insert(object)?;
    }
    object.set("problems", problems)?;
    Ok(object)
}
