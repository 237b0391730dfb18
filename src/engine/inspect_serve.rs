//! placeholder
pub(crate) fn status(
    _: &super::hub::Hub,
    _: &super::hub::Who,
    _: &mut crate::net::link::Link,
) -> Result<(), super::error::EngineError> {
    Ok(())
}
