//! A GSM modem that is not there, written from 3GPP TS 27.005, 27.007, 23.038 and 23.040.
