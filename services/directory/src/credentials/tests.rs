//! Hashes against published vectors.

use super::hash::Hash;
use crate::error::HashFault;

#[test]
fn hashes_of_other_systems_open() {
    for (hash, password) in [
        // passlib's documentation.
        ("$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa0", "password"),
        ("{MD5-CRYPT}$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa0", "password"),
        // Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", test vectors; the crypt(3) of the system agrees.
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
        ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
        ("$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!"),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        ),
        // crypt_blowfish's vectors (Openwall).
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"),
        ("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ("{PLAIN}pass word", "pass word"),
    ] {
        let parsed = Hash::parse(hash).unwrap_or_else(|e| panic!("{hash}: {e}"));
        assert!(parsed.opens(password), "{hash}");
        assert!(!parsed.opens("Password"), "{hash}");
    }
}

#[test]
fn what_is_no_hash_is_named() {
    let costly = "$argon2id$v=19$m=4000000,t=9,p=1$c29tZXNhbHRzb21lc2FsdA$G5ajKFCoUzaXRLdz7UJb5wGkb2Xt+X5/GQjUYtS2+TE";
    for (text, fault) in [
        ("secret", HashFault::Unknown),
        ("$9$x$y", HashFault::Unknown),
        ("{ROT13}frperg", HashFault::Unknown),
        ("{SSHA}abc", HashFault::Weak("{SSHA}".to_owned())),
        ("$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa", HashFault::Damaged),
        ("$6$saltstring$short", HashFault::Damaged),
        ("$5$rounds=999999999$s$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", HashFault::Cost),
        ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", HashFault::Cost),
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA", HashFault::Damaged),
        (costly, HashFault::Cost),
        ("{PLAIN}", HashFault::Damaged),
        ("$2€", HashFault::Unknown),
        ("$1", HashFault::Unknown),
        ("$1$", HashFault::Damaged),
        ("$2a$€", HashFault::Damaged),
    ] {
        assert_eq!(Hash::parse(text).err(), Some(fault), "{text}");
    }
}

#[test]
fn nobody_s_hash_is_of_the_cost_and_no_password_opens_it() {
    use crate::change::HashCost;
    use argon2::{Argon2, PasswordVerifier, password_hash::Error};
    let cost = HashCost { memory_kib: 32, passes: 2, ..HashCost::default() };
    let hash = super::nobody_s_hash(cost).unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=32,t=2,p=1$"), "{hash}");
    // It is computed and compared: a hash that cannot be read would be answered at once, which tells who exists.
    assert_eq!(Argon2::default().verify_password(b"x", hash.as_str()), Err(Error::PasswordInvalid));
    assert!(super::nobody_s_hash(HashCost { memory_kib: 1, ..cost }).is_err());
}
