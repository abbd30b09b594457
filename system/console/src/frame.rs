//! How the answer to a program stands on a line that people and the kernel write to as well.
//!
//! Contract: `STX number CR LF`, the order's output, `ETX number blank code CR LF`, the ETX in the first column. In the output LF is
//! sent as CR LF, and control characters other than TAB are sent as `?`: nothing an order says can end its own frame.

/// Begins an answer.
pub const STX: u8 = 0x02;
/// Ends an answer.
pub const ETX: u8 = 0x03;
/// The order lasted too long.
pub const TIME: u8 = 124;
/// The order said too much.
pub const SIZE: u8 = 125;
/// The program could not be started.
pub const START: u8 = 126;
/// The order was refused before anything was started.
pub const REFUSED: u8 = 127;

/// The order of a program: its number and its words. None: the line is no such order.
#[must_use]
pub fn machine_order(line: &str) -> Option<(u64, &str)> {
    let (number, words) = line.strip_prefix('@')?.split_once(' ').unwrap_or((line.strip_prefix('@')?, ""));
    if number.is_empty() || number.len() > 18 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, words))
}

/// The beginning of an answer.
#[must_use]
pub fn open(number: u64) -> Vec<u8> {
    [&[STX], number.to_string().as_bytes(), b"\r\n"].concat()
}

/// The body of an answer, piece by piece.
#[derive(Debug, Default)]
pub struct Body {
    middle_of_line: bool,
}

impl Body {
    /// A piece of output as it goes on the line.
    pub fn piece(&mut self, output: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(output.len() + output.len() / 16);
        for &byte in output {
            match byte {
                b'\n' => line.extend_from_slice(b"\r\n"),
                b'\r' => {}
                b'\t' | 0x20..=0x7e | 0x80.. => line.push(byte),
                _ => line.push(b'?'),
            }
        }
        if let Some(&last) = line.last() {
            self.middle_of_line = last != b'\n';
        }
        line
    }
    /// The end of the answer.
    #[must_use]
    pub fn close(self, number: u64, code: u8) -> Vec<u8> {
        let start: &[u8] = if self.middle_of_line { b"\r\n" } else { b"" };
        [start, &[ETX], format!("{number} {code}\r\n").as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_of_a_program() {
        assert_eq!(machine_order("@12 disks list"), Some((12, "disks list")));
        assert_eq!(machine_order("@12"), Some((12, "")));
        assert_eq!(machine_order("@ disks"), None);
        assert_eq!(machine_order("@1x disks"), None);
        assert_eq!(machine_order("12"), None);
        assert_eq!(machine_order("@1234567890123456789 x"), None);
    }

    #[test]
    fn the_end_stands_in_the_first_column() {
        let mut body = Body::default();
        assert_eq!(body.piece(b"a\nb\x03\x1b[1m"), b"a\r\nb??[1m");
        assert_eq!(body.close(7, 3), b"\r\n\x037 3\r\n");
        let mut body = Body::default();
        body.piece(b"a\n");
        assert_eq!(body.close(7, 0), b"\x037 0\r\n");
    }

    proptest! {
        #[test]
        fn no_output_ends_its_own_frame(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut body = Body::default();
            let mut sent = open(1);
            for piece in &pieces {
                sent.extend(body.piece(piece));
            }
            sent.extend(body.close(1, 0));
            prop_assert_eq!(sent.iter().filter(|&&b| b == ETX).count(), 1);
            prop_assert_eq!(sent.iter().filter(|&&b| b == STX).count(), 1);
            prop_assert!(sent.ends_with(b"\n\x031 0\r\n"));
        }
    }
}
