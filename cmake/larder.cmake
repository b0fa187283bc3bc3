# The two functions every folder uses, so that flags and rules stand in one place.

add_library(larder_flags INTERFACE)
target_include_directories(larder_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
target_compile_options(
  larder_flags
  INTERFACE -Wall
            -Wextra
            -Wconversion
            -Wshadow
            -Wnon-virtual-dtor
            $<$<BOOL:${LARDER_WERROR}>:-Werror>
            -fno-omit-frame-pointer
            # What is built must not tell where.
            -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=
            $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
if(LARDER_BREAKABLE)
  target_compile_definitions(larder_flags INTERFACE LARDER_BREAKABLE)
endif()
if(LARDER_SANITIZE)
  string(REPLACE ";" "," larder_sanitizers "${LARDER_SANITIZE}")
  target_compile_options(larder_flags INTERFACE -fsanitize=${larder_sanitizers} -fno-sanitize-recover=undefined)
  target_link_options(larder_flags INTERFACE -fsanitize=${larder_sanitizers})
endif()

# larder_library(<name> SOURCES <cc...> DEPS <targets...> PRIVATE_DEPS <targets...>)
# One per folder. A dependency that is not named here does not link.
function(larder_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC larder_flags ${arg_DEPS} PRIVATE ${arg_PRIVATE_DEPS})
endfunction()

# larder_test(<name> SOURCES <cc...> DEPS <targets...> [LABEL <unit>] [TIMEOUT <s>])
# A GoogleTest program; each of its tests is a CTest test with the given label.
function(larder_test name)
  if(NOT LARDER_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(LARDER_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 5")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE larder_flags ${arg_DEPS} GTest::gtest_main)
  if(LARDER_SANITIZE)
    # The tests themselves take half of a sanitized build's time when they are optimized.
    target_compile_options(${name} PRIVATE -O0)
  endif()
  gtest_discover_tests(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} DISCOVERY_TIMEOUT 60)
endfunction()
