//! What is written is read again, whatever else is in the file.
