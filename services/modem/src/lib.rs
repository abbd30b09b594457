//! The GSM modem on a serial port: AT engine, families, bring-up, watch (3GPP TS 27.005, TS 27.007).
