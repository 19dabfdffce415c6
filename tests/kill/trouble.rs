//! Trouble for a worker that runs: what it needs is taken away for a while, from outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Something that can be taken from a worker, and given back.
pub trait Trouble {
    fn begin(&mut self, worker: u32);

    fn end(&mut self, worker: u32);

    /// The worker is dead: what it leaves behind is there for the next one.
    fn after(&mut self) {}
}

/// It is stopped: not a thread of it goes on.
#[derive(Debug)]
pub struct Stop;

impl Trouble for Stop {
    fn begin(&mut self, worker: u32) {
        signal(worker, libc::SIGSTOP);
    }

    fn end(&mut self, worker: u32) {
        signal(worker, libc::SIGCONT);
    }
}

fn signal(worker: u32, signal: i32) {
    // SAFETY: kill(2) takes no pointer; the worker is a child that nobody has waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(worker).unwrap(), signal) }, 0);
}

/// A limit of the process is lowered, below what it has or needs.
#[derive(Debug)]
pub struct Limit(pub libc::__rlimit_resource_t, pub u64);

impl Trouble for Limit {
    fn begin(&mut self, worker: u32) {
        let mut limit = self.limit(worker, None);
        limit.rlim_cur = self.1;
        self.limit(worker, Some(limit));
    }

    fn end(&mut self, worker: u32) {
        let mut limit = self.limit(worker, None);
        limit.rlim_cur = limit.rlim_max;
        self.limit(worker, Some(limit));
    }
}

impl Limit {
    fn limit(&self, worker: u32, to: Option<libc::rlimit>) -> libc::rlimit {
        let to = to.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let worker = i32::try_from(worker).unwrap();
        // SAFETY: the new limit is none or lives, and the old one is a live, writable rlimit of this frame.
        unsafe { libc::prlimit(worker, self.0, to, &raw mut before) };
        before
    }
}

/// A small file system, and others who write it full. A process that has it mounted keeps it, and it is reached through that.
#[derive(Debug)]
pub struct FullDisk {
    keeper: Child,
    place: PathBuf,
}

impl FullDisk {
    /// None, and why, where there can be no such file system.
    pub fn at(place: &Path) -> Result<Self, String> {
        fs::create_dir_all(place).unwrap();
        let mut keeper = Command::new(env!("CARGO_BIN_EXE_host-guest"))
            .arg("a-small-room")
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            keeper.wait().unwrap();
            return Err(line.trim().to_owned());
        }
        let seen = format!("/proc/{}/root", keeper.id());
        let full = Self { place: Path::new(&seen).join(place.strip_prefix("/").unwrap()), keeper };
        match fs::write(full.ballast(), "") {
            Ok(()) => Ok(full),
            Err(error) => Err(format!("{}: {error}", full.place.display())),
        }
    }

    /// Where it is.
    pub fn place(&self) -> PathBuf {
        self.place.clone()
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Trouble for FullDisk {
    fn begin(&mut self, _: u32) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for bytes in [64 << 10, 4096, 1] {
            let piece = vec![b'x'; bytes];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    fn end(&mut self, _: u32) {
        self.after();
    }

    fn after(&mut self) {
        fs::write(self.ballast(), "").unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
