//! Keeps the configuration of both nodes the same: the history of this node on one side, the channel on the other.
//!
//! Contract: whenever the channel comes up, the document changes here, or half a minute has passed, this node offers its head and both settle
//! what [`History`] says. Everything that may wait for the disk runs where it holds nobody up. [`ConfigCopy::settled`] tells people how it stands.
//!
//! Failure classes: those of a call; [`HistoryError`] as [`Error::Config`].

use crate::channel::{Channel, State, blocking};
use crate::error::Error;
use crate::message::{Answer, Refusal, RefusalKind, Request};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use twinpost_config::history::{History, HistoryError, Received, Settled};

/// Edits by hand are looked for this often.
const LOOK: Duration = Duration::from_secs(2);
/// The other node is asked at least this often, in case that an answer got lost.
const OFFER: Duration = Duration::from_secs(30);

/// Judges a document: all its faults, a sentence each.
pub type Judge = Arc<dyn Fn(&str) -> Result<(), Vec<String>> + Send + Sync>;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ConfigCopy {
    history: Arc<Mutex<History>>,
    judge: Judge,
    generation: Arc<watch::Sender<(u32, String)>>,
    settled: Arc<watch::Sender<Option<Settled>>>,
}

impl ConfigCopy {
    /// Over this history, with this judgement.
    #[must_use]
    pub fn new(history: History, judge: Judge) -> Self {
        let head = number_and_id(&history);
        Self {
            history: Arc::new(Mutex::new(history)),
            judge,
            generation: Arc::new(watch::Sender::new(head)),
            settled: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Number and id of the generation in force, with every change: when it changes, services read the document anew.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<(u32, String)> {
        self.generation.subscribe()
    }

    /// How the last exchange with the other node ended; `None` before the first.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<Option<Settled>> {
        self.settled.subscribe()
    }

    /// Does something with the history, as [`History::take`], [`History::choose`] or [`History::conflict`].
    ///
    /// # Errors
    /// [`Error::Config`].
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut History, &Judge) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, Error> {
        let copy = self.clone();
        blocking(move || {
            let mut history = copy.history.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut history, &copy.judge);
            // Even after a fault: an edit by hand may have been taken before it.
            let head = number_and_id(&history);
            copy.generation.send_if_modified(|now| {
                let changed = *now != head;
                *now = head;
                changed
            });
            Ok(done?)
        })
        .await
    }

    /// Answers [`Request::ConfigOffer`] and [`Request::ConfigGet`]; `None` for any other request.
    pub async fn answer(&self, request: &Request) -> Option<Result<Answer, Refusal>> {
        let failed = |why: Error| Refusal::new(RefusalKind::Failed, why.to_string());
        match request {
            Request::ConfigGet => {
                let offer = self.with(|history, judge| {
                    history.notice(&**judge)?;
                    Ok(history.offer())
                });
                Some(offer.await.map(|offer| Answer::ConfigIs(offer.map(Box::new))).map_err(failed))
            }
            Request::ConfigOffer(offer) => {
                let offer = offer.clone();
                let received = self.with(move |history, judge| history.receive(&offer, &**judge)).await.map_err(failed);
                if let Ok(received) = &received {
                    self.tell(match received {
                        Received::Taken | Received::Same { .. } => Some(Settled::Agreed),
                        Received::Conflict { .. } => Some(Settled::Conflict),
                        Received::Refused { faults } | Received::Edited { faults } => {
                            Some(Settled::WeRefuse { faults: faults.clone() })
                        }
                        // The offering node takes ours now, and offers again if it cannot.
                        Received::Behind { .. } | Received::Other => None,
                    });
                }
                Some(received.map(|received| Answer::Config(Box::new(received))))
            }
            _ => None,
        }
    }

    /// Offers this node's head once and settles the answer.
    ///
    /// # Errors
    /// Those of a call; [`Error::Config`].
    pub async fn exchange(&self, channel: &Channel) -> Result<Settled, Error> {
        let offer = self.with(|history, judge| {
            history.notice(&**judge)?;
            Ok(history.offer())
        });
        let settled = match offer.await? {
            Some(offer) => match channel.call(Request::ConfigOffer(Box::new(offer))).await? {
                Answer::Config(received) => self.with(move |history, judge| history.answered(&received, &**judge)).await?,
                other => return Err(Error::Answer(format!("{other:?} to an offer of the configuration"))),
            },
            // A new node without a document takes the other's.
            None => match channel.call(Request::ConfigGet).await? {
                Answer::ConfigIs(Some(offer)) => {
                    let mine = Received::Behind { mine: offer };
                    self.with(move |history, judge| history.answered(&mine, &**judge)).await?
                }
                _ => Settled::Open,
            },
        };
        self.tell(Some(settled.clone()));
        Ok(settled)
    }

    /// Keeps both nodes the same until it is dropped.
    pub async fn run(&self, channel: &Channel) {
        let mut state = channel.state();
        let mut generation = self.generation();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            generation.mark_unchanged();
            if matches!(*state.borrow_and_update(), State::Up { .. }) {
                match self.exchange(channel).await {
                    Ok(settled) => tracing::debug!(?settled, "configuration compared with the other node"),
                    Err(why) => tracing::warn!(%why, "the configuration could not be compared with the other node"),
                }
            }
            let next = tokio::time::sleep(OFFER);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    changed = state.changed() => match changed {
                        Ok(()) => break,
                        // The channel is gone; whoever runs this drops it.
                        Err(_) => std::future::pending().await,
                    },
                    _ = generation.changed() => break,
                    _ = look.tick() => {
                        if let Err(why) = self.with(|history, judge| history.notice(&**judge)).await {
                            tracing::warn!(%why, "the configuration file could not be looked at");
                        }
                    }
                }
            }
        }
    }

    fn tell(&self, settled: Option<Settled>) {
        if let Some(settled) = settled {
            self.settled.send_if_modified(|now| {
                let changed = now.as_ref() != Some(&settled);
                if changed {
                    match &settled {
                        Settled::Conflict => {
                            tracing::error!("both nodes have changed the configuration: choose one with `pair conflict`");
                        }
                        Settled::TheyRefuse { faults } | Settled::WeRefuse { faults } => {
                            tracing::error!(
                                ?faults,
                                "the nodes have different configurations, one of them does not take the other's"
                            );
                        }
                        Settled::Agreed | Settled::Open => {}
                    }
                    *now = Some(settled.clone());
                }
                changed
            });
        }
    }
}

fn number_and_id(history: &History) -> (u32, String) {
    history.head().map_or((0, String::new()), |head| (head.number, head.id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, Handler, Identity, Settings};
    use futures_util::future::BoxFuture;
    use std::net::SocketAddr;
    use std::path::Path;

    struct Node(ConfigCopy);

    impl Handler for Node {
        fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Refusal>> {
            Box::pin(async move { self.0.answer(&request).await.unwrap_or(Ok(Answer::Done)) })
        }
    }

    fn copy(dir: &Path, text: Option<&str>) -> ConfigCopy {
        std::fs::create_dir_all(dir).expect("a folder");
        let file = dir.join("appliance.toml");
        if let Some(text) = text {
            std::fs::write(&file, text).expect("written");
        }
        let judge: Judge = Arc::new(|text: &str| if text.contains("bad") { Err(vec!["bad".to_owned()]) } else { Ok(()) });
        let (history, _) = History::open(&dir.join("config"), &file, "n", None, &*judge).expect("opens");
        ConfigCopy::new(history, judge)
    }

    async fn reaches(copy: &ConfigCopy, wanted: &str) {
        let mut generation = copy.generation();
        loop {
            let text = copy.with(|history, _| Ok(history.head().map(|head| head.text.clone()))).await.expect("read");
            if text.as_deref() == Some(wanted) {
                return;
            }
            generation.changed().await.expect("lives");
        }
    }

    #[tokio::test]
    async fn the_configuration_follows_over_the_channel() {
        let dir = tempfile::tempdir().expect("a folder");
        let [a, b] =
            Identity::couple(&dir.path().join("ia"), &dir.path().join("ib"), ["a", "b"]).expect("a couple").map(Arc::new);
        let copies = [copy(&dir.path().join("a"), Some("one")), copy(&dir.path().join("b"), None)];
        // Node b connects to node a; node a listens only, its partner's address is not known: each direction settles both.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = |partner| Settings { listen: vec![any], partner, from: None, about: About::default() };
        let server = Channel::start(a, settings(Vec::new()), Arc::new(Node(copies[0].clone()))).await.expect("starts");
        let client =
            Channel::start(b, settings(vec![server.listening()[0]]), Arc::new(Node(copies[1].clone()))).await.expect("starts");
        let run = copies[1].run(&client);
        let story = async {
            // A node without a document takes the other's; a change goes there; so does one of the other.
            reaches(&copies[1], "one").await;
            assert_eq!(std::fs::read_to_string(dir.path().join("b/appliance.toml")).expect("written"), "one");
            copies[1].with(|history, judge| history.take("two", "admin", &**judge)).await.expect("taken");
            reaches(&copies[0], "two").await;
            copies[0].with(|history, judge| history.take("three", "admin", &**judge)).await.expect("taken");
            assert_eq!(copies[1].exchange(&client).await.expect("settled"), Settled::Agreed);
            reaches(&copies[1], "three").await;
        };
        tokio::select! {
            () = run => panic!("it ended"),
            () = story => {}
        }
        // Nobody copies while both change it: a conflict on both, and a choice on one ends it.
        for (copy, text) in copies.iter().zip(["left", "right"]) {
            copy.with(move |history, judge| history.take(text, "admin", &**judge)).await.expect("taken");
        }
        assert_eq!(copies[1].exchange(&client).await.expect("settled"), Settled::Conflict);
        assert!(copies.iter().all(|copy| *copy.settled().borrow() == Some(Settled::Conflict)));
        let choose =
            |history: &mut History, judge: &Judge| history.choose(twinpost_config::history::Choice::Theirs, "admin", &**judge);
        copies[1].with(choose).await.expect("chosen");
        assert_eq!(copies[1].exchange(&client).await.expect("settled"), Settled::Agreed);
        for copy in &copies {
            reaches(copy, "left").await;
            assert_eq!(*copy.settled().borrow(), Some(Settled::Agreed));
        }
    }
}
