//! GSM short messages: alphabets, PDUs, segmentation (3GPP TS 23.038, TS 23.040).
#![no_std]
