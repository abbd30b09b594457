//! THREAD=REFERENCES, step by step as RFC 5256 3 numbers them.

use super::{Forest, Message, Node};
use std::collections::HashMap;

/// A place in a thread: a message, or an id that only others name.
struct Container {
    message: Option<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
    /// How many have this one as parent, while `children` is not built yet.
    child_count: usize,
}

struct Threader<'a, 'm> {
    messages: &'a [Message<'m>],
    containers: Vec<Container>,
}

/// Threads by References. `messages` are in order of sequence numbers.
#[must_use]
pub fn references(messages: &[Message<'_>]) -> Forest {
    let mut t = Threader { messages, containers: Vec::with_capacity(messages.len() * 2) };
    t.link();
    t.build_children();
    let mut roots = t.prune();
    // (4): the top level by date, the children of dummies before.
    for root in &roots {
        if t.containers[*root].message.is_none() {
            t.sort_children(*root);
        }
    }
    t.sort_roots(&mut roots);
    let mut roots = t.merge_subjects(roots);
    // (6)
    for c in 0..t.containers.len() {
        t.sort_children(c);
    }
    t.sort_roots(&mut roots);
    let number = |c: &Container| c.message.map_or(0, |m| messages[m].number);
    let nodes = t.containers.iter().map(|c| Node { number: number(c), children: c.children.clone() }).collect();
    Forest { nodes, roots }
}

impl Threader<'_, '_> {
    fn add(&mut self, message: Option<usize>) -> usize {
        self.containers.push(Container { message, parent: None, children: Vec::new(), child_count: 0 });
        self.containers.len() - 1
    }

    /// (1) Containers by id, parents by references.
    fn link(&mut self) {
        let messages = self.messages;
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(messages.len() * 2);
        for (i, m) in messages.iter().enumerate() {
            let own = m.parsed.and_then(|p| p.id.as_deref());
            // A second message with the same id gets a place of its own (RFC 5256 3 (1)).
            let this = match own.and_then(|id| ids.get(id).copied()) {
                Some(c) if self.containers[c].message.is_none() => {
                    self.containers[c].message = Some(i);
                    c
                }
                Some(_) => self.add(Some(i)),
                None => {
                    let c = self.add(Some(i));
                    if let Some(id) = own {
                        ids.insert(id, c);
                    }
                    c
                }
            };
            // (1) (A)
            let mut before: Option<usize> = None;
            for id in m.parsed.map_or(&[][..], |p| &p.references) {
                let next = *ids.entry(id).or_insert_with(|| self.containers.len());
                if next == self.containers.len() {
                    self.add(None);
                }
                if let Some(parent) = before
                    && self.containers[next].parent.is_none()
                {
                    self.set_parent(next, parent);
                }
                before = Some(next);
            }
            // (1) (B): what the message itself says outweighs what others said.
            if let Some(parent) = before.filter(|p| self.containers[this].parent != Some(*p)) {
                self.set_parent(this, parent);
            }
        }
    }

    /// Makes `parent` the parent, unless that made a loop.
    fn set_parent(&mut self, child: usize, parent: usize) {
        // Whoever has no children is nobody's ancestor: that spares the way up for nearly all.
        if child == parent || (self.containers[child].child_count > 0 && self.is_above(child, parent)) {
            return;
        }
        if let Some(old) = self.containers[child].parent.replace(parent) {
            self.containers[old].child_count -= 1;
        }
        self.containers[parent].child_count += 1;
    }

    fn is_above(&self, ancestor: usize, mut c: usize) -> bool {
        loop {
            if c == ancestor {
                return true;
            }
            match self.containers[c].parent {
                Some(parent) => c = parent,
                None => return false,
            }
        }
    }

    fn build_children(&mut self) {
        for c in 0..self.containers.len() {
            if let Some(parent) = self.containers[c].parent {
                self.containers[parent].children.push(c);
            }
        }
    }

    /// (2) and (3): roots, with dummies taken out but for those that hold roots together.
    fn prune(&mut self) -> Vec<usize> {
        let first: Vec<usize> = (0..self.containers.len()).filter(|c| self.containers[*c].parent.is_none()).collect();
        // Parents before children; walked backwards, each is looked at when its children are done.
        let mut order = first.clone();
        let mut at = 0;
        while at < order.len() {
            order.extend_from_slice(&self.containers[order[at]].children);
            at += 1;
        }
        for c in order.into_iter().rev() {
            let children = std::mem::take(&mut self.containers[c].children);
            let mut kept = Vec::with_capacity(children.len());
            for child in children {
                if self.containers[child].message.is_some() {
                    kept.push(child);
                } else {
                    // Its children take its place; without children it is gone.
                    kept.append(&mut self.containers[child].children);
                }
            }
            self.containers[c].children = kept;
        }
        let mut roots = Vec::with_capacity(first.len());
        for c in first {
            let container = &mut self.containers[c];
            if container.message.is_some() || container.children.len() > 1 {
                roots.push(c);
            } else {
                roots.append(&mut container.children);
            }
        }
        roots
    }

    /// A container's date: of a dummy the date of its first child. Ties go by sequence number, which is the message's index.
    fn date(&self, c: usize) -> (i64, usize) {
        let c = &self.containers[c];
        let message = c.message.or_else(|| c.children.first().and_then(|child| self.containers[*child].message));
        message.map_or((i64::MAX, usize::MAX), |m| (self.messages[m].sent_s(), m))
    }

    fn sort_children(&mut self, c: usize) {
        let mut children = std::mem::take(&mut self.containers[c].children);
        if children.len() > 1 {
            children.sort_by_cached_key(|child| self.date(*child));
        }
        self.containers[c].children = children;
    }

    fn sort_roots(&self, roots: &mut [usize]) {
        roots.sort_by_cached_key(|c| self.date(*c));
    }

    /// (5): threads whose subjects are the same become one.
    fn merge_subjects(&mut self, roots: Vec<usize>) -> Vec<usize> {
        let subjects: Vec<String> = roots.iter().map(|c| self.subject(*c)).collect();
        // (5) (B): which thread of each subject stays
        let mut table: HashMap<&str, usize> = HashMap::with_capacity(roots.len());
        for (root, subject) in roots.iter().zip(&subjects).filter(|(_, s)| !s.is_empty()) {
            match table.get(subject.as_str()) {
                Some(old) => {
                    let (old_dummy, dummy) = (self.is_dummy(*old), self.is_dummy(*root));
                    if (!old_dummy && dummy) || (!old_dummy && self.is_reply(*old) && !self.is_reply(*root)) {
                        table.insert(subject, *root);
                    }
                }
                None => {
                    table.insert(subject, *root);
                }
            }
        }
        // (5) (C)
        let mut gone = vec![false; self.containers.len()];
        let mut replaced: HashMap<usize, usize> = HashMap::new();
        for (root, subject) in roots.iter().zip(&subjects) {
            let this = *root;
            let Some(there) = table.get(subject.as_str()).copied().filter(|there| *there != this) else { continue };
            gone[this] = true;
            if self.is_dummy(there) && self.is_dummy(this) {
                let mut children = std::mem::take(&mut self.containers[this].children);
                self.containers[there].children.append(&mut children);
            } else if self.is_dummy(there) || (self.is_reply(this) && !self.is_reply(there)) {
                self.containers[there].children.push(this);
            } else {
                let dummy = self.add(None);
                self.containers[dummy].children = vec![there, this];
                gone.push(false);
                replaced.insert(there, dummy);
                table.insert(subject, dummy);
            }
        }
        roots.into_iter().filter(|c| !gone[*c]).map(|c| replaced.get(&c).copied().unwrap_or(c)).collect()
    }

    fn is_dummy(&self, c: usize) -> bool {
        self.containers[c].message.is_none()
    }
    fn parsed(&self, c: usize) -> Option<usize> {
        let c = &self.containers[c];
        c.message.or_else(|| c.children.first().and_then(|child| self.containers[*child].message))
    }
    fn subject(&self, c: usize) -> String {
        self.parsed(c).map_or_else(String::new, |m| self.messages[m].base_subject())
    }
    fn is_reply(&self, c: usize) -> bool {
        self.containers[c].message.and_then(|m| self.messages[m].parsed).is_some_and(|p| p.is_reply)
    }
}
