// SPDX-License-Identifier: Apache-2.0
//! The message of a service to a connection that it does not serve.
//!
//! It replaces the first bytes that the client waits for: the response to a new session, the
//! greeting of a connection that receives calls, or the header of the first reply. A client of this
//! crate recognises the mark. For others the mark is a wire version that does not exist, or a
//! message of an unknown kind: their connection is refused without a reason.

use rustix::net::{SendFlags, send};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

/// First bytes of a refusal: no wire version, greeting or message begins with them.
const MARK: [u8; 4] = [0xff; 4];
/// Length of the mark and of the number after it, the length of the text.
pub(super) const HEADER: usize = 8;
/// Longest text in bytes.
const MAX_TEXT: usize = 1024;

/// Reason why a connection is not served, as text for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Store for the service's refusal, for all of a client's connections.
pub(in crate::linux) type Heard = Arc<OnceLock<String>>;

/// Sends `reason` to a connection that will not be served. Does not wait: a client that does not
/// read gets no reason.
pub(in crate::linux) fn send_refusal(socket: impl AsFd, reason: &str) {
    let mut end = reason.len().min(MAX_TEXT);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let text = &reason.as_bytes()[..end];
    let length = u32::try_from(end).unwrap_or(0).to_le_bytes();
    let message = [&MARK[..], &length, text].concat();
    // Fails for a client that has closed the connection or does not read.
    let _ = send(socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Returns the length of the text if these first bytes of a connection begin a refusal.
pub(super) fn text_length(first: &[u8]) -> Option<usize> {
    let (mark, rest) = first.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    (*mark == MARK).then(|| usize::try_from(length).unwrap_or(usize::MAX).min(MAX_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn sent(reason: &str) -> Vec<u8> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        send_refusal(&ours, reason);
        drop(ours);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("read");
        bytes
    }

    #[test]
    fn a_refusal_is_known_by_its_first_bytes() {
        let bytes = sent("no");
        assert_eq!((text_length(&bytes), &bytes[HEADER..]), (Some(2), &b"no"[..]));
        for other in [&[0; 8][..], &[0xff; 4], b"cci\0\0\0\0\0", &[2, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(text_length(other), None, "{other:?}");
        }
        assert_eq!(text_length(&[0xff; 8]), Some(MAX_TEXT), "no more is read");
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let bytes = sent(&"ä".repeat(MAX_TEXT).replacen('ä', "a", 1));
        assert_eq!(text_length(&bytes), Some(MAX_TEXT - 1));
        assert!(std::str::from_utf8(&bytes[HEADER..]).is_ok());
    }
}
