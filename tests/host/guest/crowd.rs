//! Several copies of the library in one process: this program's own, and some that were loaded.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

use crate::bare::text;

/// As `libmq.h` has it.
const LOCKED: i32 = -102;
const FORKED: i32 = -301;

type Open =
    unsafe extern "C" fn(*const c_char, *const c_void, *mut *mut c_void, *mut *mut c_void) -> i32;
type Close = unsafe extern "C" fn(*mut c_void, i64, *mut *mut c_void) -> i32;
type Free = unsafe extern "C" fn(*mut c_void);

/// A library that was loaded.
struct Library {
    open: Open,
    close: Close,
    free: Free,
}

impl Library {
    fn load(path: &str) -> Self {
        let path = CString::new(path).unwrap();
        // SAFETY: the path is a live string that ends in NUL; what the library does when it is loaded is ours.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!library.is_null(), "{path:?} cannot be loaded");
        let find = |name: &str| {
            let name = CString::new(name).unwrap();
            // SAFETY: the library stays loaded; the name is a live string that ends in NUL.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            assert!(!found.is_null(), "{name:?} is not there");
            found
        };
        // SAFETY: these are functions of `libmq.h` with these arguments.
        unsafe {
            Self {
                open: std::mem::transmute::<*mut c_void, Open>(find("libmq_broker_open")),
                close: std::mem::transmute::<*mut c_void, Close>(find("libmq_broker_close")),
                free: std::mem::transmute::<*mut c_void, Free>(find("libmq_broker_free")),
            }
        }
    }

    fn open(&self, directory: &Path) -> Result<*mut c_void, i32> {
        let (path, mut broker) = (text(directory), ptr::null_mut());
        // SAFETY: the path lives, there are no options, the broker's place is of this frame, and no error is asked for.
        let status =
            unsafe { (self.open)(path.as_ptr(), ptr::null(), &raw mut broker, ptr::null_mut()) };
        if status == 0 { Ok(broker) } else { Err(status) }
    }

    fn close(&self, broker: *mut c_void) -> i32 {
        // SAFETY: the broker is a handle of this library's, which checks it.
        unsafe { (self.close)(broker, 5000, ptr::null_mut()) }
    }

    fn free(&self, broker: *mut c_void) {
        // SAFETY: as above.
        unsafe { (self.free)(broker) };
    }
}

/// Each of them has the directory in turn, and then none of the others.
pub fn run(place: &Path, words: &[String]) {
    let libraries: Vec<Library> = words.iter().map(|path| Library::load(path)).collect();
    assert!(libraries.len() >= 2 && libraries[0].open as usize != libraries[1].open as usize);
    let directory = place.join("queue");
    let opens = || Broker::open(&directory, Options::new());
    let mut refused = 0;
    for round in 0..5 {
        let broker = opens().unwrap();
        broker.enqueue(Message::new("q", "kept")).unwrap();
        for library in &libraries {
            assert_eq!(library.open(&directory), Err(LOCKED));
            refused += 1;
        }
        broker.close(Duration::from_secs(5)).unwrap();
        for library in &libraries {
            let broker = library.open(&directory).unwrap();
            let error = opens().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Locked);
            assert!(error.to_string().contains("process"), "{error}");
            for other in &libraries {
                assert_eq!(other.open(&directory), Err(LOCKED));
            }
            refused += 1 + libraries.len();
            if round == 0 {
                in_a_child(|| library.close(broker) == FORKED);
            }
            assert_eq!(library.close(broker), 0);
            library.free(broker);
        }
    }
    // Each on a directory of its own, all at once; a child is deaf on all of them.
    let broker = opens().unwrap();
    let own: Vec<_> = libraries
        .iter()
        .enumerate()
        .map(|(number, library)| library.open(&place.join(format!("own-{number}"))).unwrap())
        .collect();
    in_a_child(|| {
        let deaf = libraries.iter().zip(&own).all(|(library, own)| library.close(*own) == FORKED);
        deaf && broker.metrics().is_err_and(|error| error.kind() == ErrorKind::Forked)
    });
    for (library, own) in libraries.iter().zip(own) {
        assert_eq!(library.close(own), 0);
    }
    assert_eq!(broker.metrics().unwrap().broker.ready, 5);
    broker.close(Duration::from_secs(5)).unwrap();
    println!("{refused} opens of a directory that another copy of the library had were LOCKED");
}

/// Whether something is so in a forked child.
fn in_a_child(is_so: impl Fn() -> bool) {
    // SAFETY: the child asks libmq, which answers at once there, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_so = is_so();
        // SAFETY: ends this process; nothing of it is needed any more.
        unsafe { libc::_exit(i32::from(!is_so)) };
    }
    let mut status = -1;
    // SAFETY: `status` is a live integer of this frame; `child` is a child nobody else waits for.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "a forked child is not deaf");
}
