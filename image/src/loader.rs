//! systemd-boot that asks nobody.
//!
//! As shipped it looks for a key before it starts an entry, and any key opens its menu, which waits for ever. Firmware calls every serial port
//! a console that it is told to, and on those of a node there is more than a person: the other node's heartbeat, a modem's answers, noise. Such bytes have
//! kept nodes in the menu, and one of them (`d`) makes the entry under the cursor the default for ever, against the entries' own order. There is no
//! setting against it (loader.conf(5): `timeout 0` still asks). So the one call that asks is replaced by "no key".
//!
//! Contract: exactly one place is changed, five bytes, and only where the code around it is what was looked at; another version of the package
//! that looks different fails the build. Failure class: [`Error::Format`].

use crate::error::{Error, Result};

/// `mov esi, 100000`: how long it waits for a key, in microseconds, as the second argument.
const WAITS: [u8; 5] = [0xbe, 0xa0, 0x86, 0x01, 0x00];
/// The call lies within so many bytes behind it.
const WINDOW: usize = 40;
/// `call rel32` and `mov eax, imm32` are both so long.
const CALL: usize = 5;
/// `test rax, rax`: the answer is looked at, soon behind the call.
const LOOKS: [u8; 3] = [0x48, 0x85, 0xc0];
const LOOKS_WITHIN: usize = 12;
/// `mov eax, 1`: any answer but `EFI_SUCCESS` means that no key was there.
const NO_KEY: [u8; CALL] = [0xb8, 0x01, 0x00, 0x00, 0x00];

/// The boot manager without its question.
pub fn deaf(program: &[u8]) -> Result<Vec<u8>> {
    let mut calls = Vec::new();
    for begin in places(program, &WAITS) {
        let from = begin + WAITS.len();
        let window = from..(from + WINDOW).min(program.len().saturating_sub(CALL + LOOKS_WITHIN + LOOKS.len()));
        let looked_at = |at: &usize| {
            let behind = &program[at + CALL..at + CALL + LOOKS_WITHIN];
            program[*at] == 0xe8 && !places(behind, &LOOKS).is_empty()
        };
        calls.extend(window.filter(looked_at));
    }
    let [call] = calls[..] else {
        let why = format!(
            "its question for a key was looked for and found {} times: look at efi_main of this version and at {}",
            calls.len(),
            file!()
        );
        return Err(Error::Format { what: "systemd-bootx64.efi".into(), why });
    };
    let mut deaf = program.to_vec();
    deaf[call..call + CALL].copy_from_slice(&NO_KEY);
    Ok(deaf)
}

fn places(within: &[u8], what: &[u8]) -> Vec<usize> {
    let windows = within.windows(what.len()).enumerate();
    windows.filter(|(_, window)| *window == what).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of systemd-boot 252.39-1~deb12u2, `efi_main`.
    const AS_SHIPPED: &str = "be a08601 00 4c89542438 48c784244801000000000000 e84e6affff 4c8b542438 4885c0 0f85f1e1ffff";

    fn code(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn the_question_is_taken_out_and_nothing_else() {
        let mut program = vec![0x90; 300];
        program.splice(100..100, code(AS_SHIPPED));
        let deaf = deaf(&program).unwrap();
        assert_eq!(deaf.len(), program.len());
        let changed: Vec<usize> = (0..deaf.len()).filter(|at| deaf[*at] != program[*at]).collect();
        assert_eq!(changed, [122, 123, 124, 125, 126]);
        assert_eq!(deaf[122..127], NO_KEY);
    }

    #[test]
    fn another_program_is_refused() {
        for program in [
            Vec::new(),
            WAITS.to_vec(),
            vec![0x90; 4000],
            [code(AS_SHIPPED), vec![0x90; 90], code(AS_SHIPPED), vec![0; 90]].concat(),
        ] {
            assert!(deaf(&program).unwrap_err().to_string().contains("question"));
        }
    }
}
