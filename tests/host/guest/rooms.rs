//! Rooms: mounts that this process alone sees, and that go with it.

use std::io;
use std::path::Path;

use crate::bare::text;
use crate::cannot;

/// Of a room that is kept for others.
const SMALL_KIB: u64 = 3 << 10;

/// Has mounts of this process's own from here on; in a user namespace where it is not the machine's root.
///
/// Leaves where neither is allowed.
pub fn enter() {
    // SAFETY: these take no pointer; no thread has been started yet, as a new user namespace asks.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: as above.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
            cannot(&format!("no mounts of its own: {}", io::Error::last_os_error()));
        }
        let maps =
            [("setgroups", "deny".to_owned()), ("uid_map", map(user)), ("gid_map", map(group))];
        for (file, text) in maps {
            if let Err(error) = std::fs::write(format!("/proc/self/{file}"), text) {
                cannot(&format!("no root of its own: {file}: {error}"));
            }
        }
    }
    // What is mounted here is seen nowhere else.
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, None);
}

/// Keeps a small room for others, until its input ends.
pub fn keep(at: &Path) {
    enter();
    small(at, SMALL_KIB);
    println!("ready");
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

fn map(id: u32) -> String {
    format!("0 {id} 1")
}

/// A file system in memory of so many KiB.
pub fn small(at: &Path, kib: u64) {
    mount(Some("tmpfs"), at, Some("tmpfs"), 0, Some(&format!("size={kib}k")));
}

/// Has whoever comes by a path find the directory of another one.
pub fn again(what: &Path, at: &Path) {
    mount(Some(what.to_str().unwrap()), at, None, libc::MS_BIND, None);
}

/// Has whoever comes by this path find the same directory, and only for reading. What is open stays as it is.
pub fn only_to_read(at: &Path) {
    again(at, at);
    let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    mount(None, at, None, flags, None);
}

/// Takes the topmost mount away again.
pub fn leave(at: &Path) {
    let at = text(at);
    // SAFETY: the path is a live string that ends in NUL.
    assert_eq!(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }, 0);
}

fn mount(what: Option<&str>, at: &Path, kind: Option<&str>, flags: u64, data: Option<&str>) {
    let string = |text: Option<&str>| text.map(|text| std::ffi::CString::new(text).unwrap());
    let (what, kind, data, place) = (string(what), string(kind), string(data), text(at));
    let pointer =
        |text: &Option<std::ffi::CString>| text.as_ref().map_or(std::ptr::null(), |it| it.as_ptr());
    // SAFETY: each pointer is null or a live string of this frame that ends in NUL.
    let done = unsafe {
        let (what, kind, data) = (pointer(&what), pointer(&kind), pointer(&data));
        libc::mount(what, place.as_ptr(), kind, flags, data.cast())
    };
    if done != 0 {
        cannot(&format!("{} cannot be mounted: {}", at.display(), io::Error::last_os_error()));
    }
}
