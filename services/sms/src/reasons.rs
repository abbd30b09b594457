//! The sentences for what happened here (those for codes of the network are in `twinpost_gsm`), in two languages.

use crate::api::{Condition, Reason};

fn reason(permanent: bool, text: &str, zh: &str) -> Reason {
    Reason { permanent, code: None, text: text.to_owned(), zh: zh.to_owned() }
}

pub(crate) fn expired(last: Option<&Reason>) -> Reason {
    let mut r = reason(true, "its time was over before the network accepted it", "在有效期内未能发出");
    if let Some(last) = last {
        r.code = last.code;
        r.text = format!("{}; the last obstacle: {}", r.text, last.text);
        r.zh = format!("{}；最后一次的原因：{}", r.zh, last.zh);
    }
    r
}

pub(crate) fn unknown_too_often(times: u8) -> Reason {
    reason(
        true,
        &format!("the outcome of {times} attempts is unknown: it may have arrived, and is not sent again"),
        &format!("已尝试 {times} 次，结果均不明：短信可能已送达，不再重发"),
    )
}

pub(crate) fn unknown(what: &str) -> Reason {
    reason(
        false,
        &format!("whether it was sent is unknown ({what}); it is sent again, marked as a possible duplicate"),
        "发送结果不明，将重发并标记为可能重复",
    )
}

pub(crate) fn restarted() -> Reason {
    reason(
        false,
        "the SMS process was restarted and the text was kept in memory only: it waits to be handed in again",
        "短信进程已重启，等待重新提交正文",
    )
}

pub(crate) fn key_of_another() -> Reason {
    reason(true, "the key names another message already", "该编号已用于另一条短信")
}

pub(crate) fn queue_full() -> Reason {
    reason(false, "too many messages wait to be sent; try again later", "待发短信过多，请稍后再试")
}

pub(crate) fn disk(what: &str) -> Reason {
    reason(false, &format!("the spool's disk refused the message: {what}"), "短信队列所在磁盘无法写入，请检查磁盘空间")
}

pub(crate) fn bad_key() -> Reason {
    reason(true, "the key is empty, too long, or not visible ASCII", "编号为空、过长或含有非法字符")
}

pub(crate) fn bad_number(what: &str) -> Reason {
    reason(true, &format!("this is not a telephone number: {what}"), "号码无效：只能是数字，国际号码以 + 开头")
}

pub(crate) fn empty_text() -> Reason {
    reason(true, "there is no text to send", "短信没有正文")
}

pub(crate) fn too_long(parts: usize, most: u8) -> Reason {
    reason(
        true,
        &format!("the text needs {parts} parts and {most} are allowed"),
        &format!("正文需要拆成 {parts} 条，最多允许 {most} 条"),
    )
}

pub(crate) fn way(text: &str, zh: &str) -> Reason {
    reason(false, text, zh)
}

/// One sentence for each condition.
pub(crate) fn condition(condition: Condition) -> (&'static str, &'static str) {
    match condition {
        Condition::Ready => ("ready", "就绪"),
        Condition::Starting => ("the modem is being started", "调制解调器正在启动"),
        Condition::NoPort => ("the modem's port is not there: is the cable plugged in?", "找不到调制解调器串口，请检查线缆"),
        Condition::PortBusy => ("another program holds the modem's port", "调制解调器串口被其他程序占用"),
        Condition::NotAModem => ("what answers on the port is not a modem", "串口上的设备不是调制解调器"),
        Condition::WrongSpeed => ("the port is set to another speed than the modem", "串口速率与调制解调器不一致"),
        Condition::NoSim => ("there is no readable SIM card in the modem", "调制解调器中没有可读的 SIM 卡"),
        Condition::PinWanted => ("the SIM card wants a PIN and none is set", "SIM 卡需要 PIN 码，但尚未设置"),
        Condition::PinWrong => (
            "the SIM card refused the PIN; it will not be tried again until another one is set",
            "PIN 码错误；在设置新的 PIN 码之前不会再试",
        ),
        Condition::PukWanted => {
            ("the SIM card is locked and wants its PUK: unlock it in a telephone", "SIM 卡已锁定，需要 PUK 码，请在手机中解锁")
        }
        Condition::NoNetwork => {
            ("the modem has no network: look at the antenna and its place", "没有移动网络信号，请检查天线和位置")
        }
        Condition::Denied => ("the network does not admit the SIM card: ask the operator", "网络拒绝此 SIM 卡，请联系运营商"),
        Condition::StorageFull => ("it sends, but the memory for received messages is full", "可以发送，但接收短信的存储已满"),
        Condition::Silent => ("the modem does not answer", "调制解调器没有响应"),
        Condition::Resetting => ("the modem is being reset", "调制解调器正在复位"),
        Condition::Stopped => ("the modem driver is stopped", "调制解调器驱动已停止"),
        Condition::Disconnected => ("no connection to the operator's SMPP service", "未连接到运营商的 SMPP 服务"),
        Condition::BindRefused => {
            ("the operator's SMPP service refuses the name or password", "运营商的 SMPP 服务拒绝了用户名或密码")
        }
        Condition::Throttled => ("the operator asks to send more slowly", "运营商要求降低发送速度"),
    }
}

/// Whether messages can be sent in this condition.
pub(crate) fn sends(condition: Condition) -> bool {
    matches!(condition, Condition::Ready | Condition::StorageFull)
}
