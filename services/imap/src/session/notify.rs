//! NOTIFY (RFC 5465): news of mailboxes that are not selected, and of the selected one outside of IDLE.
//!
//! Contract: the news are the difference of two lists of mailboxes, the one that was told and the one that is; the account's
//! watch says when to compare. The annotation events are not offered (`NO [BADEVENT ..]`).

use super::answer::{Answer, Stop};
use super::fetch::Wanted;
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::{Backend, MailboxInfo};
use crate::codec::ast::{EventGroup, FetchItem, MailboxFilter, MailboxName, Notify, NotifyEvent, StatusItem};
use std::collections::{HashMap, HashSet};
use tokio::sync::watch;
use twinpost_message::view::Entry;
use twinpost_message::{MailboxId, ModSeq};

/// What a client wants to hear.
pub(crate) struct Wishes {
    groups: Vec<EventGroup>,
    told: HashMap<MailboxId, MailboxInfo>,
    changes: watch::Receiver<ModSeq>,
}

impl Wishes {
    /// Wakes when something of the account changed.
    pub fn waiter(&self) -> watch::Receiver<ModSeq> {
        self.changes.clone()
    }

    fn selected(&self) -> Option<&EventGroup> {
        self.groups.iter().find(|g| matches!(g.filter, MailboxFilter::Selected | MailboxFilter::SelectedDelayed))
    }

    /// Whether news of the selected mailbox may come between commands; true: also expunges.
    pub fn tells_selected(&self) -> Option<bool> {
        let group = self.selected()?;
        (!group.events.is_empty()).then_some(group.filter == MailboxFilter::Selected)
    }

    /// What is to be fetched of new messages in the selected mailbox.
    fn new_message_items(&self) -> Option<&[FetchItem]> {
        self.selected()?.events.iter().find_map(|e| match e {
            NotifyEvent::MessageNew(items) if !items.is_empty() => Some(&items[..]),
            _ => None,
        })
    }

    /// The events wanted of a mailbox that is not selected: those of the first group that names it (RFC 5465 3.1).
    fn events(&self, info: &MailboxInfo) -> &[NotifyEvent] {
        let below = |name: &MailboxName| {
            info.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let group = self.groups.iter().find(|g| match &g.filter {
            MailboxFilter::Selected | MailboxFilter::SelectedDelayed => false,
            MailboxFilter::Inboxes => &*info.name == "INBOX",
            MailboxFilter::Personal => true,
            MailboxFilter::Subscribed => info.subscribed,
            MailboxFilter::Subtree(names) => names.iter().any(below),
            MailboxFilter::Mailboxes(names) => names.iter().any(|n| n.as_str() == &*info.name),
        });
        group.map_or(&[], |g| &g.events)
    }
}

fn wants(events: &[NotifyEvent], event: &NotifyEvent) -> bool {
    events.iter().any(|e| std::mem::discriminant(e) == std::mem::discriminant(event))
}

/// RFC 5465 5 and 8: what may stand together.
fn check(groups: &[EventGroup]) -> Result<(), Answer> {
    let new = NotifyEvent::MessageNew(Vec::new());
    for group in groups {
        let (with_new, with_expunge) = (wants(&group.events, &new), wants(&group.events, &NotifyEvent::MessageExpunge));
        let others = [NotifyEvent::AnnotationChange, NotifyEvent::MailboxMetadataChange, NotifyEvent::ServerMetadataChange];
        if others.iter().any(|e| wants(&group.events, e)) {
            let code = "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)";
            return Err(Answer::no(code, "Such events are not told here"));
        }
        if with_new != with_expunge || (wants(&group.events, &NotifyEvent::FlagChange) && !with_new) {
            return Err(Answer::bad("MessageNew and MessageExpunge come together, FlagChange with both"));
        }
        let selected = matches!(group.filter, MailboxFilter::Selected | MailboxFilter::SelectedDelayed);
        if selected && (wants(&group.events, &NotifyEvent::MailboxName) || wants(&group.events, &NotifyEvent::SubscriptionChange))
        {
            return Err(Answer::bad("The selected mailbox has message events only"));
        }
        let items = group.events.iter().any(|e| matches!(e, NotifyEvent::MessageNew(items) if !items.is_empty()));
        if items && !selected {
            return Err(Answer::bad("Items are fetched of the selected mailbox only"));
        }
    }
    let selected = groups.iter().filter(|g| matches!(g.filter, MailboxFilter::Selected | MailboxFilter::SelectedDelayed));
    if selected.count() > 1 {
        return Err(Answer::bad("SELECTED stands once"));
    }
    Ok(())
}

impl<B: Backend> Session<B> {
    /// RFC 5465 3.
    pub(super) async fn set_notify<S: Sink>(&mut self, notify: Notify, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        let Notify::Set { status, groups } = notify else {
            self.notify = None;
            return Ok(Answer::ok("Quiet"));
        };
        check(&groups)?;
        let mut changes = self.backend.changes(account).await?;
        changes.borrow_and_update();
        let list = self.backend.mailboxes(account).await?;
        let wishes = Wishes { groups, told: HashMap::new(), changes };
        if status {
            let here = self.selected.as_ref().map(|s| s.id);
            for info in list.iter().filter(|i| Some(i.id) != here && wants(wishes.events(i), &NotifyEvent::MessageExpunge)) {
                self.write_status(info, &self.status_items(), out).await?;
                out.relieve().await?;
            }
        }
        let told = list.into_iter().map(|i| (i.id, i)).collect();
        self.notify = Some(Box::new(Wishes { told, ..wishes }));
        Ok(Answer::ok("You will hear"))
    }

    fn status_items(&self) -> Vec<StatusItem> {
        let mut items = vec![StatusItem::Messages, StatusItem::UidNext, StatusItem::UidValidity, StatusItem::Unseen];
        if self.modes.condstore {
            items.push(StatusItem::HighestModSeq);
        }
        items
    }

    /// News of the selected mailbox between commands, with the items of MessageNew.
    pub(crate) async fn push<S: Sink>(&mut self, out: &mut Out<'_, S>) -> Result<(), Stop> {
        if let Some(expunges) = self.notify.as_ref().and_then(|n| n.tells_selected()) {
            let before = self.selected.as_ref().map(|s| s.view.told().uid_next);
            self.tell(out, expunges).await?;
            self.fetch_new(before, out).await?;
        }
        self.tell_elsewhere(out).await
    }

    async fn fetch_new<S: Sink>(&mut self, before: Option<twinpost_message::Uid>, out: &mut Out<'_, S>) -> Result<(), Stop> {
        let items = self.notify.as_ref().and_then(|n| n.new_message_items()).map(<[FetchItem]>::to_vec);
        let (Some(mut items), Some(here), Some(before)) = (items, &self.selected, before) else { return Ok(()) };
        let told = here.view.told().clone();
        let new: Vec<(u32, Entry)> = match told.first_from(before) {
            Some((seq, _)) => told.iter_from(seq).map(|(seq, e)| (seq, *e)).collect(),
            None => return Ok(()),
        };
        if !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        let wanted = Wanted { items, seen: HashSet::new(), modes: self.modes };
        self.write_messages(self.who()?, &new, &told, &wanted, out).await?;
        Ok(())
    }

    /// News of mailboxes that are not selected.
    pub(crate) async fn tell_elsewhere<S: Sink>(&mut self, out: &mut Out<'_, S>) -> Result<(), Stop> {
        let Some(wishes) = &mut self.notify else { return Ok(()) };
        match wishes.changes.has_changed() {
            Ok(false) => return Ok(()),
            // The store closes; the selected mailbox's watch or the next command says so.
            Err(_) => return Ok(()),
            Ok(true) => {}
        }
        wishes.changes.borrow_and_update();
        let list = self.backend.mailboxes(self.who()?).await?;
        let Some(mut wishes) = self.notify.take() else { return Ok(()) };
        let here = self.selected.as_ref().map(|s| s.id);
        let items = self.status_items();
        for info in &list {
            let events = wishes.events(info);
            let old = wishes.told.get(&info.id);
            if wants(events, &NotifyEvent::MailboxName) {
                match old {
                    None => self.write_news(&[], &info.name, None, out),
                    Some(old) if old.name != info.name => self.write_news(&[], &info.name, Some(&old.name), out),
                    Some(_) => {}
                }
            }
            let Some(old) = old else { continue };
            if wants(events, &NotifyEvent::SubscriptionChange) && old.subscribed != info.subscribed {
                let attributes: &[&str] = if info.subscribed { &["\\Subscribed"] } else { &[] };
                self.write_news(attributes, &info.name, None, out);
            }
            let counts =
                wants(events, &NotifyEvent::MessageExpunge) && (old.messages, old.uid_next) != (info.messages, info.uid_next);
            let flags = wants(events, &NotifyEvent::FlagChange) && old.highest_modseq != info.highest_modseq;
            if (counts || flags) && Some(info.id) != here {
                self.write_status(info, &items, out).await?;
            }
            out.relieve().await?;
        }
        let still: HashSet<MailboxId> = list.iter().map(|i| i.id).collect();
        for old in wishes.told.values().filter(|i| !still.contains(&i.id)) {
            if wants(wishes.events(old), &NotifyEvent::MailboxName) {
                // RFC 5465 5.4
                self.write_news(&["\\NonExistent"], &old.name, None, out);
            }
        }
        wishes.told = list.into_iter().map(|i| (i.id, i)).collect();
        self.notify = Some(wishes);
        Ok(())
    }
}
