// SPDX-License-Identifier: Apache-2.0
//! Service-specific errors, the only kind of failure that Anion's interface defines.

use std::fmt;

/// A failure that the service reported, not one of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// The interface's error code; never 0.
    pub code: i32,
    /// The service's explanation.
    pub message: String,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

/// The side that had no free file descriptor for a call or its reply. Over a socket the session
/// continues, and the kernel has closed the descriptors that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfDescriptors {
    /// This process. The call was executed; the result is released.
    Caller,
    /// The service. It releases all memory that the call allocated.
    Service,
}

impl fmt::Display for OutOfDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => {
                "this process has no file descriptor left for the results of the call (RLIMIT_NOFILE)"
            }
            Self::Service => {
                "the service has no file descriptor left for the arguments or results of the call \
                 (RLIMIT_NOFILE of the service; LimitNOFILE= of its unit)"
            }
        })
    }
}

/// Returns the message in libbinder's description of a service-specific error, `Status(-8,
/// EX_SERVICE_SPECIFIC): '5: message'`: AOSP's crate gives no other access to it. Returns a
/// description of another form unchanged.
#[cfg(any(soong, test))]
pub(crate) fn message_in(description: &str, code: i32) -> &str {
    let quoted = description.split_once(": '").and_then(|(_, rest)| rest.strip_suffix('\''));
    let message = quoted.and_then(|rest| rest.strip_prefix(&format!("{code}: ")));
    message.unwrap_or(description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_libbinders_description() {
        let description = "Status(-8, EX_SERVICE_SPECIFIC): '5: heap 'camera': no room: 4 KiB'";
        assert_eq!(message_in(description, 5), "heap 'camera': no room: 4 KiB");
        for other in ["", "Status(-8, EX_SERVICE_SPECIFIC): '5: x'", "'6: x'", "5: x"] {
            assert_eq!(message_in(other, 6), other);
        }
    }
}
