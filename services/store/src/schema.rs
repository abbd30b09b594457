//! The tables of the store. `{clustered}` keeps a table in the order of its primary key where the engine can
//! (SQLite's WITHOUT ROWID); all numbers are BIGINT, so both engines give the same type.

use twinpost_sql::Migration;

/// Steps from an empty database to the newest tables.
pub(crate) const STEPS: &[Migration] = &[(1, FIRST), (2, PLACEMENT), (3, MERGED)];

/// Logs on their way into the packs: see [`crate::placement`].
const PLACEMENT: &str = "CREATE TABLE placement (seq {key}, log {blob} NOT NULL);
";

/// What came from a store that had diverged, by its name there: nothing comes twice. See [`crate::merge`].
const MERGED: &str = "CREATE TABLE merged (key {blob} NOT NULL PRIMARY KEY, at_s BIGINT NOT NULL) {clustered};
";

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE body (
    id {key}, hash {blob} NOT NULL, pack BIGINT NOT NULL, place BIGINT NOT NULL, stored_bytes BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL, thread BIGINT NOT NULL, refs BIGINT NOT NULL, parsed {blob} NOT NULL);
CREATE UNIQUE INDEX body_hash ON body (hash);
CREATE INDEX body_pack ON body (pack, place);
CREATE INDEX body_unused ON body (id) WHERE refs = 0;
CREATE TABLE account (
    id {key}, domain BIGINT NOT NULL, size_bytes BIGINT NOT NULL, messages BIGINT NOT NULL, furnished BIGINT NOT NULL);
CREATE TABLE domain (id {key}, size_bytes BIGINT NOT NULL, messages BIGINT NOT NULL);
CREATE TABLE mailbox (
    id {key}, account BIGINT NOT NULL, name TEXT NOT NULL, uid_validity BIGINT NOT NULL, uid_next BIGINT NOT NULL,
    highest_modseq BIGINT NOT NULL, messages BIGINT NOT NULL, unseen BIGINT NOT NULL, deleted BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL, special_use TEXT, created_s BIGINT NOT NULL);
CREATE UNIQUE INDEX mailbox_name ON mailbox (account, name);
CREATE TABLE keyword (mailbox BIGINT NOT NULL, place BIGINT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (mailbox, place)) {clustered};
CREATE TABLE message (
    mailbox BIGINT NOT NULL, uid BIGINT NOT NULL, body BIGINT NOT NULL, flags BIGINT NOT NULL, modseq BIGINT NOT NULL,
    received_s BIGINT NOT NULL, saved_s BIGINT NOT NULL, size_bytes BIGINT NOT NULL, PRIMARY KEY (mailbox, uid)) {clustered};
CREATE TABLE change (
    modseq {key}, account BIGINT NOT NULL, mailbox BIGINT NOT NULL, kind BIGINT NOT NULL, uid BIGINT NOT NULL,
    body BIGINT NOT NULL, at_s BIGINT NOT NULL);
CREATE INDEX change_expunged ON change (mailbox, modseq) WHERE kind = 3;
CREATE TABLE trash (
    id {key}, account BIGINT NOT NULL, mailbox_name TEXT NOT NULL, uid BIGINT NOT NULL, body BIGINT NOT NULL,
    flags BIGINT NOT NULL, received_s BIGINT NOT NULL, saved_s BIGINT NOT NULL, size_bytes BIGINT NOT NULL, deleted_s BIGINT NOT NULL);
CREATE INDEX trash_account ON trash (account, deleted_s);
CREATE INDEX trash_age ON trash (deleted_s);
CREATE TABLE subscription (account BIGINT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, name)) {clustered};
CREATE TABLE annotation (
    account BIGINT NOT NULL, mailbox BIGINT NOT NULL, entry TEXT NOT NULL, value {blob} NOT NULL,
    PRIMARY KEY (account, mailbox, entry)) {clustered};
CREATE TABLE spool (
    id {key}, body BIGINT NOT NULL, size_bytes BIGINT NOT NULL, sender TEXT, ret TEXT, envid TEXT,
    smtputf8 BIGINT NOT NULL, eight_bit BIGINT NOT NULL, require_tls BIGINT NOT NULL, held BIGINT NOT NULL, trace BIGINT NOT NULL,
    account BIGINT, created_s BIGINT NOT NULL, expires_s BIGINT NOT NULL);
CREATE TABLE spool_rcpt (
    spool BIGINT NOT NULL, n BIGINT NOT NULL, address TEXT NOT NULL, orcpt TEXT, notify BIGINT NOT NULL, state BIGINT NOT NULL,
    attempts BIGINT NOT NULL, next_try_s BIGINT NOT NULL, last_try_s BIGINT, reply_code BIGINT NOT NULL, reply_text TEXT NOT NULL,
    delay_told BIGINT NOT NULL, PRIMARY KEY (spool, n)) {clustered};
CREATE INDEX spool_rcpt_due ON spool_rcpt (next_try_s, spool) WHERE state = 0;
";
