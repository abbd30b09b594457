//! Operations on the wire. A refusal may come without a body (SMPP 3.4 4.1.6, 4.4.2), which the codec of [`rusmpp`]
//! does not take for every operation: such a bare head is read here.

use bytes::BytesMut;
use rusmpp::Command;
use rusmpp::tokio_codec::{CommandCodec, DecodeError, EncodeError};
use tokio_util::codec::{Decoder, Encoder};

/// Longest operation that is read: a `message_payload` of 64 KiB and what is around it.
const PDU_MAX_BYTES: usize = 70_000;
/// `command_length`, `command_id`, `command_status`, `sequence_number`. SMPP 3.4 3.2.
const HEAD_BYTES: u32 = 16;
/// The bit of `command_id` that tells an answer.
const ANSWER: u32 = 0x8000_0000;

/// What came.
#[derive(Debug)]
pub(super) enum Came {
    /// An answer without a body.
    Bare { status: u32, sequence: u32 },
    /// Everything else.
    Whole(Box<Command>),
}

#[derive(Debug)]
pub(super) struct Codec(CommandCodec);

impl Codec {
    pub(super) fn new() -> Codec {
        Codec(CommandCodec::new().with_max_length(PDU_MAX_BYTES))
    }
}

impl Decoder for Codec {
    type Item = Came;
    type Error = DecodeError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Came>, DecodeError> {
        let word = |n: usize| {
            let octets = input.get(n..n + 4)?;
            Some(u32::from_be_bytes(octets.try_into().ok()?))
        };
        if let (Some(HEAD_BYTES), Some(id), Some(status), Some(sequence)) = (word(0), word(4), word(8), word(12))
            && id & ANSWER != 0
            && status != 0
        {
            let _ = input.split_to(HEAD_BYTES as usize);
            return Ok(Some(Came::Bare { status, sequence }));
        }
        Ok(self.0.decode(input)?.map(|command| Came::Whole(Box::new(command))))
    }
}

impl Encoder<Command> for Codec {
    type Error = EncodeError;

    fn encode(&mut self, command: Command, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.encode(command, out)
    }
}
