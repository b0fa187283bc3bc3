# The sources that need an interpreter but not nanobind.
set(larder_python_connector_sources
    call_buffer.cc
    closer.cc
    interpreter.cc
    native_completions.cc
    native_object.cc
    plain_object.cc
    python_connector.cc
    python_error.cc
    python_object.cc
    python_registry.cc
    python_thread.cc
    size_table.cc)
list(TRANSFORM larder_python_connector_sources PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
