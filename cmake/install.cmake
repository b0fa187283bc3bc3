# The files that C++ programs and plugins are built with: the public headers, one static library, and
# its descriptions for CMake and pkg-config. Component `development`.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The contract, reports, errors, specs, and opening and using a store. Every other header is internal. A
# public header includes public headers only: the target larder_public_headers checks this.
set(larder_public_headers
    base/clock.h
    base/mutex.h
    base/result.h
    base/thread_annotations.h
    base/version.h
    connector/blocking_client.h
    connector/connector.h
    connector/metrics.h
    connector/op.h
    connector/parameters.h
    connector/registry.h
    connector/report.h
    connector/slices.h
    connector/spec.h
    connectors/builtin.h
    plugin.h)

set(larder_public_root ${CMAKE_CURRENT_BINARY_DIR}/public)
set(larder_public_sources "")
foreach(larder_header ${larder_public_headers})
  get_filename_component(larder_folder ${larder_header} DIRECTORY)
  install(FILES src/larder/${larder_header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/larder/${larder_folder}
          COMPONENT development)
  # Each header is compiled alone, with only the public ones in its include path.
  configure_file(src/larder/${larder_header} ${larder_public_root}/include/larder/${larder_header} COPYONLY)
  string(MAKE_C_IDENTIFIER ${larder_header} larder_name)
  file(CONFIGURE OUTPUT ${larder_public_root}/${larder_name}.cc
       CONTENT "#include \"larder/${larder_header}\"\n#include \"larder/${larder_header}\"\n")
  list(APPEND larder_public_sources ${larder_public_root}/${larder_name}.cc)
endforeach()
if(LARDER_BUILD_TESTS)
  add_library(larder_public_headers OBJECT ${larder_public_sources})
  target_include_directories(larder_public_headers PRIVATE ${larder_public_root}/include)
  target_compile_options(larder_public_headers PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
  target_link_libraries(larder_public_headers PRIVATE tl::expected)
endif()

# Every larder library that the registry needs, and every library that these link.
set(larder_own "")
set(larder_foreign "")
function(larder_collect target)
  if(target IN_LIST larder_own)
    return()
  endif()
  list(APPEND larder_own ${target})
  get_target_property(linked ${target} LINK_LIBRARIES)
  foreach(dependency ${linked})
    if(dependency MATCHES "^larder_(base|connector|cache|io|resp|wire)" AND TARGET ${dependency})
      larder_collect(${dependency})
    elseif(NOT dependency STREQUAL larder_flags)
      list(APPEND larder_foreign ${dependency})
    endif()
  endforeach()
  set(larder_own ${larder_own} PARENT_SCOPE)
  set(larder_foreign ${larder_foreign} PARENT_SCOPE)
endfunction()
larder_collect(larder_connectors)
list(REMOVE_DUPLICATES larder_foreign)
# Header-only: there is nothing to link.
list(REMOVE_ITEM larder_foreign nlohmann_json::nlohmann_json tl::expected)

set(larder_objects "")
foreach(larder_target ${larder_own})
  list(APPEND larder_objects $<TARGET_OBJECTS:${larder_target}>)
endforeach()
add_library(larder_archive STATIC ${larder_objects})
set_target_properties(larder_archive PROPERTIES OUTPUT_NAME larder EXPORT_NAME larder LINKER_LANGUAGE CXX)
target_compile_features(larder_archive INTERFACE cxx_std_20)
target_include_directories(larder_archive INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(larder_archive PUBLIC tl::expected PRIVATE ${larder_foreign})
add_custom_command(TARGET larder_archive POST_BUILD COMMAND ${CMAKE_STRIP} --strip-debug $<TARGET_FILE:larder_archive>)

set(larder_cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/larder)
install(TARGETS larder_archive EXPORT larder ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT larder NAMESPACE larder:: FILE larder-targets.cmake DESTINATION ${larder_cmake_folder}
        COMPONENT development)
configure_package_config_file(cmake/larder-config.cmake.in ${larder_public_root}/larder-config.cmake
                              INSTALL_DESTINATION ${larder_cmake_folder})
# Before 1.0 a minor version may change what a header says.
write_basic_package_version_file(${larder_public_root}/larder-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${larder_public_root}/larder-config.cmake ${larder_public_root}/larder-config-version.cmake
        DESTINATION ${larder_cmake_folder} COMPONENT development)
# The prefix is relative to the file, so that an installation can be moved.
file(RELATIVE_PATH larder_prefix_of_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/larder.pc.in ${larder_public_root}/larder.pc @ONLY)
install(FILES ${larder_public_root}/larder.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
