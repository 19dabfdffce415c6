//! Memory that can be refused: what is as large as a caller or a file likes is asked for here, since any other allocation
//! that fails ends the process.

use crate::error::{Error, ErrorKind, Result};

/// So many zeros.
///
/// # Errors
/// `NO_MEMORY`.
pub(crate) fn zeros(bytes: usize) -> Result<Vec<u8>> {
    let mut zeros = Vec::new();
    lengthen(&mut zeros, bytes)?;
    Ok(zeros)
}

/// An empty buffer with room for so many bytes.
///
/// # Errors
/// `NO_MEMORY`.
pub(crate) fn with_room(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    reserve(&mut buffer, bytes)?;
    Ok(buffer)
}

/// Makes a buffer this long, with zeros at its end.
///
/// # Errors
/// `NO_MEMORY`: it is as it was.
pub(crate) fn lengthen(buffer: &mut Vec<u8>, bytes: usize) -> Result<()> {
    reserve(buffer, bytes)?;
    buffer.resize(bytes, 0);
    Ok(())
}

fn reserve(buffer: &mut Vec<u8>, bytes: usize) -> Result<()> {
    buffer.try_reserve_exact(bytes.saturating_sub(buffer.len())).map_err(|_| refused(bytes))
}

/// What is answered where there is no memory for so many bytes.
pub(crate) fn refused(bytes: usize) -> Error {
    Error::new(ErrorKind::NoMemory, format!("there is no memory for {bytes} bytes"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// An allocation that fails ends the process, unless it is asked for in a way that can be refused.
    #[test]
    fn what_there_is_no_memory_for_is_refused() {
        let refused = zeros(usize::MAX / 2).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoMemory);
        assert!(refused.is_retryable());
        let mut buffer = vec![1, 2];
        assert!(lengthen(&mut buffer, usize::MAX / 2).is_err());
        assert_eq!(buffer, [1, 2]);
        lengthen(&mut buffer, 3).unwrap();
        assert_eq!(buffer, [1, 2, 0]);
    }
}
