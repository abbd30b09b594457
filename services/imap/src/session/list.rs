//! LIST and LSUB.

use super::answer::Answer;
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::algorithm::list::Pattern;
use crate::backend::{Backend, DELIMITER, MailboxInfo};
use crate::codec::ast::{List, StatusItem};
use crate::codec::respond;
use std::collections::BTreeMap;

/// A name of the tree: a mailbox, or only the way to one.
struct Node<'a> {
    name: &'a str,
    info: Option<&'a MailboxInfo>,
    has_children: bool,
    /// The selection options take it.
    chosen: bool,
    /// A pattern matches it.
    matched: bool,
    /// Something below is chosen and not shown by itself.
    hidden_below: bool,
}

impl<B: Backend> Session<B> {
    /// RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154; RFC 3501 6.3.9 LSUB.
    pub(super) async fn list<S: Sink>(&mut self, list: List, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        if !list.lsub && !list.extended && list.patterns.iter().all(String::is_empty) {
            // RFC 9051 6.3.9: asks for the hierarchy delimiter.
            out.line("* LIST (\\Noselect) \"/\" \"\"");
            return Ok(Answer::ok("Done"));
        }
        if list.select.recursive_match && !(list.select.subscribed || list.select.special_use) {
            // RFC 5258 3.1: RECURSIVEMATCH has to modify another option.
            return Err(Answer::bad("RECURSIVEMATCH needs another selection option").into());
        }
        if list.returns.status.as_ref().is_some_and(|items| items.contains(&StatusItem::HighestModSeq)) {
            self.modes.condstore = true;
        }
        let mailboxes = self.backend.mailboxes(account).await?;
        let patterns: Vec<Pattern> = list.patterns.iter().map(|p| Pattern::new(&format!("{}{p}", list.reference))).collect();
        let mut nodes = tree(&mailboxes);
        for node in &mut nodes {
            node.matched = patterns.iter().any(|p| p.matches(node.name));
            let subscribed = node.info.is_some_and(|i| i.subscribed);
            let used = node.info.is_some_and(|i| i.special_use.is_some());
            let filtered = list.lsub || list.select.subscribed || list.select.special_use;
            node.chosen = if filtered {
                (!(list.lsub || list.select.subscribed) || subscribed) && (!list.select.special_use || used)
            } else {
                true
            };
        }
        mark_hidden(&mut nodes);
        let recursive = list.lsub || list.select.recursive_match;
        for node in nodes.iter().filter(|n| n.matched && (n.chosen || (recursive && n.hidden_below))) {
            self.write_node(&list, node, out);
            if let (Some(items), Some(info)) = (&list.returns.status, node.info) {
                // RFC 5819 2: STATUS follows its LIST line.
                self.write_status(info, items, out).await?;
            }
            out.relieve().await?;
        }
        Ok(Answer::ok("Done"))
    }

    fn write_node<S: Sink>(&self, list: &List, node: &Node<'_>, out: &mut Out<'_, S>) {
        let mut attributes: Vec<&str> = Vec::new();
        if list.lsub {
            // RFC 3501 6.3.9: a level that is only the way to a subscribed mailbox is shown as not selectable.
            if !node.chosen || node.info.is_none() {
                attributes.push("\\Noselect");
            }
        } else {
            if node.info.is_none() {
                // RFC 5258 3.4; rev1 clients know the other word.
                attributes.extend(["\\NonExistent", "\\Noselect"]);
            }
            attributes.push(if node.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
            if (list.select.subscribed || list.returns.subscribed) && node.info.is_some_and(|i| i.subscribed) {
                attributes.push("\\Subscribed");
            }
            attributes.extend(node.info.and_then(|i| i.special_use).map(crate::SpecialUse::attribute));
        }
        let mut why: Vec<&str> = Vec::new();
        if !list.lsub && list.select.recursive_match && node.hidden_below {
            // RFC 5258 3.5: why a mailbox is shown that was not chosen itself.
            why.extend(list.select.subscribed.then_some("SUBSCRIBED"));
            why.extend(list.select.special_use.then_some("SPECIAL-USE"));
        }
        let line =
            respond::ListLine { lsub: list.lsub, attributes: &attributes, name: node.name, child_info: &why, old_name: None };
        respond::list(&line, self.modes.utf8, &mut out.buf);
    }

    /// `* LIST (..) "/" name`, for NOTIFY: what became of one mailbox.
    pub(super) fn write_news<S: Sink>(&self, attributes: &[&str], name: &str, old_name: Option<&str>, out: &mut Out<'_, S>) {
        // RFC 5465 5.4, RFC 9051 6.3.9.7
        let line = respond::ListLine { attributes, name, old_name, ..Default::default() };
        respond::list(&line, self.modes.utf8, &mut out.buf);
    }
}

/// All names with the levels above them, INBOX first.
fn tree(mailboxes: &[MailboxInfo]) -> Vec<Node<'_>> {
    // The delimiter sorts below every other character, so that children follow their parent.
    let key = |name: &'_ str| (name != "INBOX", name.split(DELIMITER).map(str::to_owned).collect::<Vec<_>>());
    let mut nodes: BTreeMap<(bool, Vec<String>), Node<'_>> = BTreeMap::new();
    let plain = |name, info| Node { name, info, has_children: false, chosen: false, matched: false, hidden_below: false };
    for info in mailboxes {
        nodes.entry(key(&info.name)).or_insert_with(|| plain(&info.name, None)).info = Some(info);
        for (end, _) in info.name.match_indices(DELIMITER) {
            let above = &info.name[..end];
            nodes.entry(key(above)).or_insert_with(|| plain(above, None)).has_children = true;
        }
    }
    nodes.into_values().collect()
}

/// Marks each name below which something is chosen that no pattern shows.
fn mark_hidden(nodes: &mut [Node<'_>]) {
    let hidden: Vec<String> =
        nodes.iter().filter(|n| n.chosen && !n.matched && n.info.is_some()).map(|n| n.name.to_owned()).collect();
    let above: std::collections::HashSet<&str> =
        hidden.iter().flat_map(|name| name.match_indices(DELIMITER).map(|(end, _)| &name[..end])).collect();
    for node in nodes {
        node.hidden_below = above.contains(node.name);
    }
}
