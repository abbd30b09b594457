//! Why a message was refused: `+CMS ERROR` of the modem (3GPP TS 27.005 3.2.5, with TS 24.011 annex E and TS 23.040 TP-FCS) in sentences.
//!
//! Contract: every code has a cause: what lasts (whether to try again), whose fault it is (so that one bad number never blocks the
//! others), a sentence in English and one in Chinese. Codes of no standard are `Unknown`, never invented. Nothing fails.

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lasting {
    /// No: it will be refused again.
    Permanent,
    /// Yes, later.
    Temporary,
    /// The code does not tell.
    Unknown,
}

/// What the refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The number, or the phone behind it: other numbers are not concerned.
    Recipient,
    /// This message's form.
    Message,
    /// The modem's own SIM or its contract: nothing can be sent until somebody acts.
    Subscription,
    /// The network or the service centre.
    Network,
    /// The modem itself.
    Modem,
    /// The code does not tell.
    Unknown,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The number.
    pub code: u16,
    /// Whether to try again.
    pub lasting: Lasting,
    /// Whom it concerns.
    pub blame: Blame,
    /// A sentence in English.
    pub en: &'static str,
    /// The same in Chinese.
    pub zh: &'static str,
}

use Blame::{Message, Modem, Network, Recipient, Subscription};
use Lasting::{Permanent, Temporary};

/// The cause of a `+CMS ERROR: code`. TS 27.005 3.2.5.
#[must_use]
pub fn cms_error(code: u16) -> Cause {
    match code {
        0..=127 => lookup(TRANSFER, code),
        // TS 27.005 3.2.5: 128 to 255 are TP-FCS values.
        128..=255 => lookup(FAILURE, code),
        _ => lookup(MODEM, code),
    }
}

/// The cause of a TP-FCS, as SUBMIT-REPORT and DELIVER-REPORT carry it. TS 23.040 9.2.3.22.
#[must_use]
pub fn failure_cause(code: u8) -> Cause {
    lookup(FAILURE, u16::from(code) | 0x80)
}

type Row = (u16, Lasting, Blame, &'static str, &'static str);

fn lookup(rows: &[Row], code: u16) -> Cause {
    let row = rows.binary_search_by_key(&code, |row| row.0).ok().and_then(|at| rows.get(at));
    if let Some(&(code, lasting, blame, en, zh)) = row {
        return Cause { code, lasting, blame, en, zh };
    }
    let (en, zh) = match code {
        0..=127 => (
            "The network refused the message for a reason that the standard does not name.",
            "网络拒绝了短信，原因不在标准之列。",
        ),
        // TS 23.040 9.2.3.22: 0xE0 to 0xFE are values of the application or the operator.
        224..=254 => ("The operator refused the message for a reason of its own.", "运营商因自定原因拒绝了短信。"),
        128..=255 => ("The message was refused for a reason that the standard does not name.", "短信被拒绝，原因不在标准之列。"),
        512.. => ("The modem reports an error of its maker's own numbering.", "调制解调器报告了厂商自定的错误。"),
        _ => ("The modem reports an error that the standard does not name.", "调制解调器报告了标准之外的错误。"),
    };
    let blame = if code < 256 { Blame::Unknown } else { Modem };
    Cause { code, lasting: Lasting::Unknown, blame, en, zh }
}

/// TS 24.011 annex E-2 (RP cause of a message from the mobile), with those of TS 24.008 that modems pass on.
const TRANSFER: &[Row] = &[
    (1, Permanent, Recipient, "The number is not assigned to anybody.", "该号码是空号。"),
    (3, Permanent, Recipient, "There is no route to this number.", "没有通往该号码的路由。"),
    (6, Temporary, Network, "The channel is not acceptable now.", "信道当前不可用。"),
    (8, Permanent, Subscription, "The operator bars this SIM from sending.", "运营商禁止此 SIM 卡发送短信。"),
    (10, Permanent, Recipient, "Messages to this number are barred.", "向该号码发送短信被禁止。"),
    (17, Temporary, Network, "The network failed.", "网络故障。"),
    (21, Temporary, Network, "The service centre rejected the message.", "短信中心拒绝了短信。"),
    (22, Temporary, Network, "The memory of the service centre is full.", "短信中心存储已满。"),
    (27, Temporary, Recipient, "The recipient's phone is out of service.", "对方手机不在服务区或已停机。"),
    (28, Permanent, Recipient, "The recipient's number is not registered in the network.", "对方号码未在网络中登记。"),
    (29, Permanent, Subscription, "The network does not allow this service to this SIM.", "网络不允许此 SIM 卡使用该业务。"),
    (30, Permanent, Recipient, "The number is unknown to the network.", "网络中没有该用户。"),
    (38, Temporary, Network, "The network is out of order.", "网络故障，可能持续一段时间。"),
    (41, Temporary, Network, "A temporary failure of the network.", "网络暂时故障。"),
    (42, Temporary, Network, "The network is congested.", "网络拥塞。"),
    (47, Temporary, Network, "The network has no resources free.", "网络资源不足。"),
    (50, Permanent, Subscription, "The SIM's contract does not include messages.", "此 SIM 卡未开通短信业务。"),
    (69, Permanent, Message, "The network does not support what the message asks for.", "网络不支持短信所要求的功能。"),
    (81, Temporary, Message, "The message's transfer reference is not valid.", "短信的传输参考号无效。"),
    (95, Permanent, Message, "The network finds the message invalid.", "网络认为短信无效。"),
    (96, Permanent, Message, "The network misses a mandatory field of the message.", "短信缺少必需的字段或字段错误。"),
    (97, Permanent, Message, "The network does not know this type of message.", "网络不认识这种短信类型。"),
    (98, Temporary, Network, "The message does not fit the state of the transfer.", "短信与传输协议的当前状态不符。"),
    (99, Permanent, Message, "The network does not know a field of the message.", "网络不认识短信中的某个字段。"),
    (111, Temporary, Network, "A protocol error.", "协议错误。"),
    (127, Lasting::Unknown, Network, "An error between two networks.", "网络互通出错。"),
];

/// TP-FCS. TS 23.040 9.2.3.22.
const FAILURE: &[Row] = &[
    (
        0x80,
        Permanent,
        Message,
        "This kind of message (telematic interworking) is not supported.",
        "不支持此类短信（远程信息互通）。",
    ),
    (0x81, Permanent, Message, "Short messages of type 0 are not supported.", "不支持 0 型短信。"),
    (0x82, Permanent, Message, "The earlier message cannot be replaced.", "无法替换先前的短信。"),
    (0x8F, Permanent, Message, "An error in the protocol identifier of the message.", "短信的协议标识有误。"),
    (0x90, Permanent, Message, "The alphabet of the message is not supported.", "不支持短信所用的编码。"),
    (0x91, Permanent, Message, "The class of the message is not supported.", "不支持短信的类别。"),
    (0x9F, Permanent, Message, "An error in the coding scheme of the message.", "短信的编码方案有误。"),
    (0xA0, Permanent, Message, "The order cannot be carried out.", "无法执行该指令。"),
    (0xA1, Permanent, Message, "The order is not supported.", "不支持该指令。"),
    (0xAF, Permanent, Message, "An error in the order.", "指令有误。"),
    (0xB0, Permanent, Message, "The message is not supported.", "不支持这种短信。"),
    (0xC0, Temporary, Network, "The service centre is busy.", "短信中心忙。"),
    (0xC1, Permanent, Subscription, "The service centre has no contract with this SIM.", "此 SIM 卡未在短信中心开户。"),
    (0xC2, Temporary, Network, "The service centre has failed.", "短信中心系统故障。"),
    (0xC3, Permanent, Recipient, "The number is not valid.", "号码无效。"),
    (0xC4, Permanent, Recipient, "The recipient's number is barred.", "对方号码被禁止接收短信。"),
    (
        0xC5,
        Permanent,
        Message,
        "The service centre has this message already and refuses the second.",
        "短信中心已有同一条短信，拒绝重复提交。",
    ),
    (0xC6, Permanent, Message, "The validity period is not supported in this form.", "不支持这种格式的有效期。"),
    (0xC7, Permanent, Message, "The validity period is not supported.", "不支持有效期。"),
    (0xD0, Temporary, Modem, "The SIM's message store is full.", "SIM 卡短信存储已满。"),
    (0xD1, Permanent, Modem, "The SIM cannot store messages.", "SIM 卡不能存储短信。"),
    (0xD2, Temporary, Modem, "An error in the mobile.", "移动设备出错。"),
    (0xD3, Temporary, Modem, "The mobile's memory is full.", "移动设备存储已满。"),
    (0xD4, Temporary, Modem, "The application on the SIM is busy.", "SIM 卡应用忙。"),
    (0xD5, Temporary, Modem, "An error in the data for the SIM's application.", "SIM 卡应用数据下载出错。"),
    (0xFF, Lasting::Unknown, Blame::Unknown, "The message was refused without a reason.", "短信被拒绝，未说明原因。"),
];

/// The modem's own. TS 27.005 3.2.5.
const MODEM: &[Row] = &[
    (300, Temporary, Modem, "The modem failed.", "调制解调器故障。"),
    (301, Permanent, Modem, "The modem's message service is reserved for another use.", "调制解调器的短信服务被保留作他用。"),
    (302, Permanent, Modem, "The modem does not allow the operation.", "调制解调器不允许此操作。"),
    (303, Permanent, Modem, "The modem does not support the operation.", "调制解调器不支持此操作。"),
    (304, Permanent, Message, "The modem finds the message's PDU invalid.", "调制解调器认为短信 PDU 参数无效。"),
    (305, Permanent, Message, "The modem finds a text mode parameter invalid.", "调制解调器认为文本模式参数无效。"),
    (310, Permanent, Subscription, "There is no SIM in the modem.", "调制解调器中没有 SIM 卡。"),
    (311, Permanent, Subscription, "The SIM wants its PIN.", "SIM 卡要求输入 PIN 码。"),
    (312, Permanent, Subscription, "The SIM wants the code that ties it to the phone.", "SIM 卡要求输入手机锁码。"),
    (313, Temporary, Subscription, "The SIM failed.", "SIM 卡故障。"),
    (314, Temporary, Subscription, "The SIM is busy.", "SIM 卡忙。"),
    (315, Permanent, Subscription, "The SIM is the wrong one for this modem.", "SIM 卡与设备不符。"),
    (316, Permanent, Subscription, "The SIM is locked and wants its PUK.", "SIM 卡已锁，要求输入 PUK 码。"),
    (317, Permanent, Subscription, "The SIM wants its PIN2.", "SIM 卡要求输入 PIN2 码。"),
    (318, Permanent, Subscription, "The SIM is locked and wants its PUK2.", "SIM 卡已锁，要求输入 PUK2 码。"),
    (320, Temporary, Modem, "The modem's message memory failed.", "短信存储器故障。"),
    (321, Permanent, Modem, "There is no message at this place of the memory.", "存储位置无效。"),
    (322, Temporary, Modem, "The modem's message memory is full.", "短信存储器已满。"),
    (330, Permanent, Subscription, "The number of the service centre is not known.", "短信中心号码未知。"),
    (331, Temporary, Network, "There is no network.", "没有网络。"),
    (332, Temporary, Network, "The network did not answer in time.", "网络超时未应答。"),
    (340, Permanent, Modem, "The modem did not expect an acknowledgement.", "调制解调器未等待确认（+CNMA）。"),
    (500, Lasting::Unknown, Blame::Unknown, "The modem reports an error without saying which.", "调制解调器报告未知错误。"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_in_range() {
        for rows in [TRANSFER, FAILURE, MODEM] {
            assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        assert!(TRANSFER.iter().all(|row| row.0 < 128));
        assert!(FAILURE.iter().all(|row| (128..256).contains(&row.0)));
        assert!(MODEM.iter().all(|row| (300..512).contains(&row.0)));
    }

    #[test]
    fn every_code_has_two_sentences() {
        for code in 0..=u16::MAX {
            let cause = cms_error(code);
            assert_eq!(cause.code, code);
            assert!(cause.en.ends_with('.') && cause.en.is_ascii());
            assert!(cause.zh.ends_with('。') && cause.zh.chars().any(|c| ('\u{4E00}'..='\u{9FFF}').contains(&c)));
        }
        for code in 0x80..=0xFF {
            assert_eq!(failure_cause(code), cms_error(u16::from(code)));
        }
    }

    #[test]
    fn classes() {
        for (code, lasting, blame) in [
            (1, Permanent, Recipient),
            (38, Temporary, Network),
            (50, Permanent, Subscription),
            (0xC3, Permanent, Recipient),
            (310, Permanent, Subscription),
            (322, Temporary, Modem),
            (331, Temporary, Network),
            (500, Lasting::Unknown, Blame::Unknown),
            (513, Lasting::Unknown, Modem),
        ] {
            let cause = cms_error(code);
            assert_eq!((cause.lasting, cause.blame), (lasting, blame), "{code}");
        }
    }
}
