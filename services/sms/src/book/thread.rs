//! The book's thread: jobs that wait together share one commit.
//!
//! Contract: jobs are done in the order in which they came, and their answers come back in that order. A job that
//! `must` be done is kept when the disk refuses it, and done before anything later is; every other job is answered
//! with the error and changed nothing.

use super::{Answer, Book, Op};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;

/// Jobs in one commit at most.
const GROUP_MAX: usize = 256;
/// So often is a disk that refused asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Some operations that belong together.
#[derive(Debug)]
pub(crate) struct Job {
    /// Comes back with the answer.
    pub tag: u64,
    pub ops: Vec<Op>,
    /// What happened cannot be refused: the job is kept until the disk takes it.
    pub must: bool,
}

/// A job's answer.
#[derive(Debug)]
pub(crate) struct Done {
    pub tag: u64,
    /// One answer for each operation, or what the disk said.
    pub result: Result<Vec<Answer>, String>,
    /// Jobs are owed to the disk.
    pub behind: bool,
}

/// The way to the thread. Dropped: the thread does what it was given and ends.
#[derive(Debug)]
pub(crate) struct BookHandle {
    jobs: Option<SyncSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl BookHandle {
    /// Starts the thread.
    pub(crate) fn start(book: Book, done: mpsc::UnboundedSender<Done>) -> std::io::Result<BookHandle> {
        // The desk has one job for each message or part that moves; the bound is a backstop.
        let (jobs, inbox) = sync_channel(100_000);
        let thread = std::thread::Builder::new().name("sms-book".into()).spawn(move || run(book, &inbox, &done))?;
        Ok(BookHandle { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Gives the thread a job.
    pub(crate) fn put(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            tracing::error!("the thread of the SMS spool has ended");
        }
    }

    /// Waits until everything that was given is done.
    pub(crate) fn close(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the SMS spool panicked");
        }
    }
}

fn run(mut book: Book, inbox: &Receiver<Job>, done: &mpsc::UnboundedSender<Done>) {
    // Jobs that the disk refused and that must be done.
    let mut owed: Vec<Op> = Vec::new();
    loop {
        let first = if owed.is_empty() {
            match inbox.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            }
        } else {
            match inbox.recv_timeout(AGAIN) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    if book.apply(&owed).is_err() {
                        tracing::error!(changes = owed.len(), "the SMS spool was closed with changes it could not write");
                    }
                    return;
                }
            }
        };
        let mut group: Vec<Job> = first.into_iter().collect();
        while group.len() < GROUP_MAX
            && let Ok(job) = inbox.try_recv()
        {
            group.push(job);
        }
        for answer in together(&mut book, &mut owed, group) {
            if done.send(answer).is_err() {
                return;
            }
        }
    }
}

/// All jobs in one commit; when that fails, each for itself.
fn together(book: &mut Book, owed: &mut Vec<Op>, mut group: Vec<Job>) -> Vec<Done> {
    let late = owed.len();
    let mut all = std::mem::take(owed);
    let lengths: Vec<usize> = group.iter().map(|j| j.ops.len()).collect();
    for job in &mut group {
        all.append(&mut job.ops);
    }
    match book.apply(&all) {
        Ok(answers) => {
            if late > 0 {
                tracing::info!(changes = late, "the SMS spool takes changes again");
            }
            let mut answers = answers.into_iter().skip(late);
            let mut out: Vec<Done> = Vec::with_capacity(group.len() + 1);
            for (job, length) in group.iter().zip(lengths) {
                out.push(Done { tag: job.tag, result: Ok(answers.by_ref().take(length).collect()), behind: false });
            }
            if out.is_empty() {
                out.push(Done { tag: 0, result: Ok(Vec::new()), behind: false });
            }
            out
        }
        Err(error) => {
            let text = error.to_string();
            tracing::error!(error = %text, jobs = group.len(), "the SMS spool refuses changes");
            // Give the operations back to their jobs, then each job for itself.
            let mut ops = all.into_iter();
            *owed = ops.by_ref().take(late).collect();
            let mut out = Vec::with_capacity(group.len());
            for (job, length) in group.into_iter().zip(lengths) {
                let mine: Vec<Op> = ops.by_ref().take(length).collect();
                let alone = if owed.is_empty() { book.apply(&mine).map_err(|e| e.to_string()) } else { Err(text.clone()) };
                let result = match alone {
                    Ok(answers) => Ok(answers),
                    Err(_) if job.must => {
                        // It has happened, whatever the disk says: the desk goes on, the change is owed.
                        let nothing = vec![Answer::Nothing; mine.len()];
                        owed.extend(mine);
                        Ok(nothing)
                    }
                    Err(text) => Err(text),
                };
                out.push(Done { tag: job.tag, result, behind: !owed.is_empty() });
            }
            out
        }
    }
}
