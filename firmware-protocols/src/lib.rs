//! The wire between microcontrollers and Forebay.
#![no_std]
