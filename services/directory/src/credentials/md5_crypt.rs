//! MD5-crypt, `$1$`: only to let people of an old system in once; it is replaced at that sign-in.
//!
//! Written from the public description of the algorithm (Poul-Henning Kamp, FreeBSD `crypt`, 1994): a digest of password,
//! magic and salt, mixed with a second digest, then 1,000 rounds.

use md5::{Digest, Md5};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ROUNDS: u32 = 1000;

/// The 22 characters after `$1$salt$`. At most eight bytes of the salt count.
pub(crate) fn md5_crypt(password: &[u8], salt: &[u8]) -> String {
    let salt = &salt[..salt.len().min(8)];
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(b"$1$").chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let take = left.min(16);
        outer.update(&inner[..take]);
        left -= take;
    }
    // For each bit of the length, from the lowest: a zero byte where it is set, the password's first byte where not.
    let mut bits = password.len();
    while bits > 0 {
        outer.update([if bits & 1 == 1 { 0 } else { password[0] }]);
        bits >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        next.update(if round & 1 == 1 { password } else { &digest[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round & 1 == 1 { &digest[..] } else { password });
        digest = next.finalize();
    }
    encode(&digest)
}

fn encode(digest: &[u8]) -> String {
    let mut text = String::with_capacity(22);
    let mut put = |mut bits: u32, chars: u32| {
        for _ in 0..chars {
            text.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        put(u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]), 4);
    }
    put(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::md5_crypt;
    use std::process::Command;

    #[test]
    fn published_vectors() {
        // passlib's documentation of md5_crypt, OpenSSL's documentation of `passwd -1`.
        for (password, salt, hash) in
            [("password", "5pZSV9va", "azfrPr6af3Fc7dLblQXVa0"), ("password", "xxxxxxxx", "UYCIxa628.9qXjpQCjM4a.")]
        {
            assert_eq!(md5_crypt(password.as_bytes(), salt.as_bytes()), hash, "{password} {salt}");
        }
    }

    /// Perl's `crypt` is the system's crypt(3): an implementation that is not ours.
    #[test]
    fn the_systems_crypt_agrees() {
        for password in ["", "a", "fifteen letters", "sixteen letters.", "口令 mit ümlaut", &"long".repeat(40)] {
            let script = "print crypt($ARGV[0], '$1$saltsalt$')";
            let out = Command::new("perl").args(["-e", script, password]).output().expect("perl is in every Debian");
            let expected = String::from_utf8(out.stdout).expect("crypt(3) answers in ASCII");
            assert_eq!(format!("$1$saltsalt${}", md5_crypt(password.as_bytes(), b"saltsalt")), expected, "{password:?}");
        }
    }
}
