# `cpack --config BUILD/CPackConfig.cmake` makes two Debian packages of the installed files: larder has the
# command and the service, larder-dev the files for C++ programs and plugins.

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/larder RENAME copyright)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/larder-dev RENAME copyright COMPONENT development)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME larder)
set(CPACK_PACKAGE_CONTACT "The larder maintainers")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME larder)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION utils)
# The dependencies are the libraries that the command links, in the versions of the build's system.
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS "fio")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/deploy/debian/postinst)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
    "Storage tier for LLM KV caches
The command larder with its server, manual page and shell completions,
and a systemd service, which is not enabled.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME larder-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libexpected-dev, libfmt-dev, libspdlog-dev, libssl-dev, liburing-dev, libxxhash-dev")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
    "Storage tier for LLM KV caches (development files)
Public headers and a static library for C++ programs, and the header
for plugins in C.")
include(CPack)
