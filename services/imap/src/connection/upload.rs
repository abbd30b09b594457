//! APPEND, MULTIAPPEND and REPLACE: reading the messages.
//!
//! Contract: each message goes from the connection into one buffer of its own, whose growth follows what really came; what is
//! too large is refused before it is sent where the client waits for `+`, else skipped.

use super::{Link, Ran, closing};
use crate::backend::Backend;
use crate::codec::ast::{AppendItem, AppendStart, CommandError, ErrorKind, Literal};
use crate::codec::frame::Step;
use crate::codec::parse::{append_next, append_start};
use crate::session::answer::{Answer, Stop};
use crate::session::out::{Out, Sink};
use crate::session::{AppendTarget, Upload};
use bytes::Bytes;
use std::io;
use twinpost_sasl::Accounts;
use twinpost_wire::ReadError;

/// What stands behind a message.
enum Behind {
    /// The command ends.
    End,
    /// Another message.
    Next(AppendItem, Literal),
    /// A mistake; the framer knows how to go on.
    Wrong(CommandError),
}

impl<B: Backend, A: Accounts + 'static> Link<B, A> {
    /// The whole command, its head read so far.
    pub(super) async fn upload(&mut self, head: &[u8], literal: Literal) -> Ran<()> {
        let AppendStart { tag, mailbox, replace, item } = match append_start(head, self.session.modes.utf8) {
            Ok(start) => start,
            Err(error) => {
                self.framer.refuse_message(literal);
                return self.refuse(&error);
            }
        };
        let done = match self.session.append_target(&mailbox, replace.as_ref()).await {
            Ok(target) => match self.read_messages(&target, item, literal).await {
                Ok(upload) => {
                    let mut out = Out::new(&mut self.stream, self.session.settings.chunk_bytes);
                    let done = self.session.append(target, upload, &mut out).await;
                    out.finish();
                    done
                }
                Err(stop) => Err(stop),
            },
            Err(stop) => {
                self.framer.refuse_message(literal);
                Err(stop)
            }
        };
        let mut out = Out::new(&mut self.stream, self.session.settings.chunk_bytes);
        self.session.finish(&tag, done, true, &mut out).await?;
        out.finish();
        Ok(())
    }

    async fn read_messages(&mut self, target: &AppendTarget, mut item: AppendItem, mut literal: Literal) -> Ran<Upload> {
        let mut upload = Upload::default();
        loop {
            if let Err(answer) = self.session.append_admit(target, &upload, &item) {
                self.framer.refuse_message(literal);
                return Err(answer.into());
            }
            if literal.sync {
                self.stream.queue(b"+ Go on\r\n");
                Sink::flush(&mut self.stream).await?;
            }
            let size = usize::try_from(literal.size_bytes).map_err(|_| Answer::no("TOOBIG", "The message is too large"))?;
            let mut body = Vec::new();
            let stop = self.stop.clone();
            tokio::select! {
                biased;
                read = self.stream.read_exact_into(&mut body, size, self.session.settings.transfer_timeout) => self.whole(read)?,
                () = stop.cancelled() => return Err(closing()),
            }
            let utf8 = item.utf8;
            upload.push(item, Bytes::from(body));
            match self.behind(utf8).await? {
                Behind::End => return Ok(upload),
                Behind::Next(next, announced) => (item, literal) = (next, announced),
                Behind::Wrong(error) => {
                    return Err(match error.kind {
                        ErrorKind::Syntax | ErrorKind::BadCharset | ErrorKind::Cannot => Answer::bad(error.message),
                        ErrorKind::Limit => Answer::no("LIMIT", error.message),
                        ErrorKind::TooBig => Answer::no("TOOBIG", error.message),
                    }
                    .into());
                }
            }
        }
    }

    fn whole(&self, read: Result<(), ReadError>) -> Ran<()> {
        match read {
            Ok(()) => Ok(()),
            Err(ReadError::Truncated) => Err(Stop::Io(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => self.read(Err(error)),
        }
    }

    async fn behind(&mut self, utf8: bool) -> Ran<Behind> {
        loop {
            match self.framer.advance(self.stream.buffered()) {
                Step::More => {
                    let within = self.session.settings.transfer_timeout;
                    let read = tokio::select! {
                        biased;
                        read = self.stream.fill_more(within) => read,
                        () = self.stop.cancelled() => return Err(closing()),
                    };
                    self.read(read)?;
                }
                // Only message literals stand behind a message.
                Step::Continue => {}
                Step::Skip { len_bytes } => self.stream.consume(len_bytes),
                Step::Refused { tag, kind } => {
                    return Ok(Behind::Wrong(CommandError { tag, kind, message: "The command is too long".to_owned() }));
                }
                Step::Message { head_bytes, literal } => {
                    let head = self.stream.take(head_bytes);
                    let wrong = match append_next(&head, utf8) {
                        Ok(Some(item)) => return Ok(Behind::Next(item, literal)),
                        Ok(None) => {
                            CommandError { tag: None, kind: ErrorKind::Syntax, message: "A message was expected".to_owned() }
                        }
                        Err(error) => error,
                    };
                    self.framer.refuse_message(literal);
                    return Ok(Behind::Wrong(wrong));
                }
                Step::Complete { len_bytes } => {
                    let rest = self.stream.take(len_bytes);
                    return Ok(match append_next(&rest, utf8) {
                        Ok(None) => Behind::End,
                        Ok(Some(_)) => Behind::Wrong(CommandError {
                            tag: None,
                            kind: ErrorKind::Syntax,
                            message: "The literal of a message was expected".to_owned(),
                        }),
                        Err(error) => Behind::Wrong(error),
                    });
                }
            }
        }
    }
}
