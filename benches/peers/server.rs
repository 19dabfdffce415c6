//! Servers on loopback, each started for one run and stopped behind it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// How long a server is waited for.
const SOON: Duration = Duration::from_secs(20);

/// A server and how it keeps what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Redis with an append-only file, synced each second.
    RedisEverysec,
    /// The same, synced before each answer.
    RedisAlways,
    /// beanstalkd with a binlog that is synced 50 ms later, which is its default.
    Beanstalkd,
    /// beanstalkd with a binlog that is synced before each answer.
    BeanstalkdAlways,
    /// NATS with JetStream, which syncs every two minutes. Debian's cannot do otherwise.
    Nats,
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts one in a directory; none where it is not installed.
    pub(crate) fn start(kind: Kind, scratch: &Path) -> Result<Option<Self>, Failure> {
        let directory = scratch.join("server");
        std::fs::create_dir(&directory)?;
        // Nobody has it now; that somebody takes it within the next moment is not guarded against.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let Some(mut command) = kind.command(&directory, port)? else { return Ok(None) };
        let log = std::fs::File::create(scratch.join("server.log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let server = Self { child, port };
        let end = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > end {
                let said = std::fs::read_to_string(scratch.join("server.log")).unwrap_or_default();
                return Err(format!("{kind:?} does not listen: {}", said.trim()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save: its directory goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    fn command(self, directory: &Path, port: u16) -> Result<Option<Command>, Failure> {
        let program = match self {
            Self::RedisEverysec | Self::RedisAlways => "redis-server",
            Self::Beanstalkd | Self::BeanstalkdAlways => "beanstalkd",
            Self::Nats => "nats-server",
        };
        let Some(program) = installed(program) else { return Ok(None) };
        let mut command = Command::new(program);
        let port = port.to_string();
        match self {
            Self::RedisEverysec | Self::RedisAlways => {
                let fsync = if matches!(self, Self::RedisAlways) { "always" } else { "everysec" };
                command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]);
                command.arg(directory).args(["--appendonly", "yes", "--appendfsync", fsync]);
            }
            Self::Beanstalkd | Self::BeanstalkdAlways => {
                let after_ms = if matches!(self, Self::Beanstalkd) { "-f50" } else { "-f0" };
                command.args(["-l", "127.0.0.1", "-p", &port, after_ms, "-z", "2000000", "-b"]);
                command.arg(directory);
            }
            Self::Nats => {
                let file = directory.join("nats.conf");
                let text = format!(
                    "host: 127.0.0.1\nport: {port}\njetstream {{\n  store_dir: {:?}\n}}\n",
                    directory.join("store")
                );
                std::fs::write(&file, text)?;
                command.arg("-c").arg(file);
            }
        }
        Ok(Some(command))
    }
}

/// Where a program is, also where only the administrator looks for it.
fn installed(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(more)
        .map(|place| place.join(program))
        .find(|place| place.exists())
}
