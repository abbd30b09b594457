//! Families of modems as data: how they name themselves, and where they differ from the standard and from each other.

/// A family and its quirks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The word for `--family`.
    pub name: &'static str,
    /// `+CGMI`.
    pub manufacturer: &'static str,
    /// `+CGMM`.
    pub model: &'static str,
    /// `+CGMR`.
    pub revision: &'static str,
    /// The prompt of `+CMGS` behind CR LF. 27.005 3.5.1: `> `; some leave the space out.
    pub prompt: &'static str,
    /// Lines after start, before the SIM is ready.
    pub boot: &'static [&'static str],
    /// Lines when the SIM is ready and the network found.
    pub ready: &'static [&'static str],
    /// Message memories for `+CPMS`, the first is the default.
    pub memories: &'static [&'static str],
    /// Places in the SIM's memory.
    pub capacity: usize,
    /// `AT^SM20` exists, and until it is set to `0,0` a failed `+CMGS` is answered `OK`.
    pub sm20: bool,
    /// No message is routed to the terminal until `+CNMA` was given once after start.
    pub cnma_first: bool,
    /// Bytes that the line takes without a gap, and the gap in milliseconds; what is beyond is lost.
    pub burst: Option<(usize, u64)>,
    /// The modem counts TP-MR itself (the usual); else what the terminal wrote goes out.
    pub counts_references: bool,
    /// `+CSMS=1` is taken.
    pub phase2plus: bool,
    /// `+CEREG` exists.
    pub lte: bool,
    /// Errors of class `+CMS` are written in words under `+CMEE=2`.
    pub cms_words: bool,
    /// Lines that come at times by themselves, `{s}` is the signal.
    pub chatter: &'static [&'static str],
    /// Milliseconds from power to the first answer.
    pub boot_ms: u64,
}

const GSM: Family = Family {
    name: "",
    manufacturer: "",
    model: "",
    revision: "",
    prompt: "> ",
    boot: &[],
    ready: &[],
    memories: &["SM", "ME", "MT"],
    capacity: 20,
    sm20: false,
    cnma_first: false,
    burst: None,
    counts_references: true,
    phase2plus: true,
    lte: false,
    cms_words: false,
    chatter: &[],
    boot_ms: 3000,
};

/// All families that the simulator can be.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "mc35i",
        manufacturer: "SIEMENS",
        model: "MC35i",
        revision: "REVISION 02.00",
        sm20: true,
        boot: &["^SYSSTART"],
        memories: &["MT", "SM", "ME"],
        capacity: 30,
        boot_ms: 2000,
        ..GSM
    },
    Family {
        name: "tc35",
        manufacturer: "SIEMENS",
        model: "TC35",
        revision: "REVISION 04.00",
        sm20: true,
        memories: &["SM", "ME", "MT"],
        ..GSM
    },
    Family {
        name: "mc55",
        manufacturer: "SIEMENS",
        model: "MC55",
        revision: "REVISION 04.00",
        sm20: true,
        boot: &["^SYSSTART"],
        memories: &["MT", "SM", "ME"],
        ..GSM
    },
    Family {
        name: "wavecom",
        manufacturer: "WAVECOM MODEM",
        model: "MULTIBAND  900E  1800",
        revision: "641b09gg.Q2403A 1320676 061804 14:38",
        memories: &["SM"],
        boot: &["+WIND: 1", "+WIND: 3"],
        ready: &["+WIND: 4"],
        capacity: 15,
        ..GSM
    },
    Family {
        name: "sim800",
        manufacturer: "SIMCOM_Ltd",
        model: "SIMCOM_SIM800L",
        revision: "Revision:1418B05SIM800L24",
        boot: &["RDY", "+CFUN: 1", "+CPIN: READY"],
        ready: &["Call Ready", "SMS Ready"],
        cms_words: true,
        capacity: 50,
        ..GSM
    },
    Family {
        name: "sim7600",
        manufacturer: "SIMCOM INCORPORATED",
        model: "SIMCOM_SIM7600E-H",
        revision: "+CGMR: LE20B03SIM7600M22",
        boot: &["RDY", "+CPIN: READY"],
        ready: &["SMS DONE", "PB DONE"],
        memories: &["ME", "MT", "SM", "SR"],
        lte: true,
        capacity: 50,
        cms_words: true,
        boot_ms: 8000,
        ..GSM
    },
    Family {
        name: "m35",
        manufacturer: "Quectel_Ltd",
        model: "Quectel_M35",
        revision: "Revision: M35FAR02A04",
        prompt: ">",
        boot: &["RDY", "+CFUN: 1", "+CPIN: READY"],
        ready: &["Call Ready"],
        capacity: 50,
        ..GSM
    },
    Family {
        name: "ec20",
        manufacturer: "Quectel",
        model: "EC20F",
        revision: "Revision: EC20CEFAGR06A05M4G",
        boot: &["RDY", "+CPIN: READY"],
        ready: &["+QIND: SMS DONE", "+QIND: PB DONE"],
        memories: &["ME", "MT", "SM", "SR"],
        lte: true,
        capacity: 50,
        boot_ms: 10_000,
        ..GSM
    },
    Family {
        name: "ec25",
        manufacturer: "Quectel",
        model: "EC25",
        revision: "Revision: EC25EFAR06A06M4G",
        boot: &["RDY", "+CPIN: READY"],
        ready: &["+QIND: SMS DONE", "+QIND: PB DONE"],
        memories: &["ME", "MT", "SM", "SR"],
        lte: true,
        cnma_first: true,
        capacity: 50,
        boot_ms: 10_000,
        ..GSM
    },
    Family {
        name: "huawei",
        manufacturer: "huawei",
        model: "E173",
        revision: "11.126.85.00.209",
        boot: &["^SYSSTART"],
        ready: &["^SRVST:2", "^SIMST:1"],
        chatter: &["^RSSI:{s}", "^MODE:5,4", "^BOOT:20952548,0,0,0,75"],
        capacity: 30,
        ..GSM
    },
    Family {
        name: "nokia",
        manufacturer: "Nokia Mobile Phones",
        model: "Nokia 6310i",
        revision: "V 05.57",
        memories: &["ME", "SM"],
        burst: Some((64, 5)),
        phase2plus: false,
        capacity: 150,
        boot_ms: 6000,
        ..GSM
    },
    Family {
        name: "zte",
        manufacturer: "ZTE CORPORATION",
        model: "MF190",
        revision: "BD_MF190V1.0.0B05",
        ready: &["+ZDONR: \"Home\",460,0,\"CS_PS\",\"ROAM_OFF\""],
        chatter: &["+ZPASR: \"UMTS\"", "+ZUSIMR:2"],
        counts_references: false,
        capacity: 25,
        ..GSM
    },
    Family {
        name: "plain",
        manufacturer: "Twinpost",
        model: "Simulated modem",
        revision: env!("CARGO_PKG_VERSION"),
        boot_ms: 500,
        capacity: 50,
        lte: true,
        ..GSM
    },
];

impl Family {
    /// The family of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|f| f.name.eq_ignore_ascii_case(name))
    }
}
