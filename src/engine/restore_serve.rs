//! placeholder
pub(crate) fn serve(
    _: &super::hub::Hub,
    _: &super::hub::Who,
    _: &mut crate::net::link::Link,
    _: crate::net::message::Read,
) -> Result<(), super::error::EngineError> {
    Ok(())
}
