//! Asking the kernel about routes, over rtnetlink, in the network namespace that the calling thread is in.
//!
//! By hand, because three messages are all that is needed, and a general netlink crate is half a megabyte of a
//! plugin that must stay under one.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
            sockopt,
        },
        time::TimeVal,
    },
};

use super::route::{Route, u16_at, u32_at};

/// The kernel's answer to a request takes microseconds; this bounds a call that must not hang.
const PATIENCE: TimeVal = TimeVal::new(5, 0);
/// The kernel fills at most 32 KiB of a dump at a time.
const BUFFER: usize = 64 * 1024;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// How often a dump that changed underneath is read again.
const DUMP_TRIES: u32 = 8;
const DUMP_INTERRUPTED: u16 = 0x10;

/// A connection to the kernel, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

impl Kernel {
    /// Connects.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All routes of both families and every table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        for _ in 0..DUMP_TRIES {
            if let Some(routes) = self.dump()? {
                return Ok(routes);
            }
        }
        Err(io::Error::other("the routes changed each time that they were read"))
    }

    /// `None` when the routes changed meanwhile.
    fn dump(&mut self) -> io::Result<Option<Vec<Route>>> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let (mut routes, mut whole) = (Vec::new(), true);
        self.ask(libc::RTM_GETROUTE, flags, &Route::ANY, |flags, payload| {
            whole &= flags & DUMP_INTERRUPTED == 0;
            routes.extend(Route::parse(payload));
        })?;
        Ok(whole.then_some(routes))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// The kernel's; `EEXIST` when a route to this destination with this metric exists.
    pub fn add(&mut self, route: &Route) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(libc::RTM_NEWROUTE, flags, &route.encode(), |_, _| {})
    }

    /// Removes a route; one that is gone already is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, route: &Route) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        match self.ask(libc::RTM_DELROUTE, flags, &route.encode(), |_, _| {}) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Sends one request and reads its answers until the last.
    fn ask(
        &mut self,
        kind: u16,
        flags: i32,
        payload: &[u8],
        mut answer: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut request = Vec::with_capacity(HEADER + payload.len());
        request.extend(u32::try_from(HEADER + payload.len()).map_err(too_long)?.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(u16::try_from(flags).map_err(too_long)?.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        request.extend(payload);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;

        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
            let mut rest = buffer.get(..length).ok_or_else(|| malformed("an answer too long to read"))?;
            while let Some(message) = Message::next(&mut rest)? {
                if message.sequence != self.sequence {
                    continue;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => return status(message.payload),
                    _ => answer(message.flags, message.payload),
                }
            }
        }
    }
}

/// One netlink message of an answer.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `rest`.
    fn next(rest: &mut &'a [u8]) -> io::Result<Option<Self>> {
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = || malformed("an answer that is cut off");
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(cut)?;
        let message = Self {
            kind: u16_at(rest, 4).ok_or_else(cut)?,
            flags: u16_at(rest, 6).ok_or_else(cut)?,
            sequence: u32_at(rest, 8).ok_or_else(cut)?,
            payload: rest.get(HEADER..length).ok_or_else(cut)?,
        };
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok(Some(message))
    }
}

/// The result at the end of an answer: a negated errno, or 0; a dump may end without one.
fn status(payload: &[u8]) -> io::Result<()> {
    match u32_at(payload, 0).map_or(0, u32::cast_signed) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel gave {what}"))
}
