# For builds by pip, which say little of what goes wrong: looks for every Debian package that the
# build needs, and names the missing ones together.

set(larder_missing "")

macro(larder_look_for package name)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    list(APPEND larder_missing ${name})
  endif()
endmacro()

larder_look_for(tl-expected libexpected-dev)
larder_look_for(fmt libfmt-dev)
larder_look_for(spdlog libspdlog-dev)
larder_look_for(nlohmann_json nlohmann-json3-dev)
larder_look_for(CLI11 libcli11-dev)
larder_look_for(OpenSSL libssl-dev)
larder_look_for(tomlplusplus libtomlplusplus-dev)
find_program(PKG_CONFIG_EXECUTABLE pkg-config)
if(NOT PKG_CONFIG_EXECUTABLE)
  list(APPEND larder_missing pkg-config liburing-dev libxxhash-dev libzstd-dev zlib1g-dev
       libzmq3-dev libcpp-httplib-dev)
else()
  foreach(larder_pair "liburing:liburing-dev" "libxxhash:libxxhash-dev" "libzstd:libzstd-dev"
                      "zlib:zlib1g-dev" "libzmq:libzmq3-dev" "cpp-httplib:libcpp-httplib-dev")
    string(REPLACE ":" ";" larder_pair ${larder_pair})
    list(GET larder_pair 0 larder_module_name)
    list(GET larder_pair 1 larder_package_name)
    execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --exists ${larder_module_name}
                    RESULT_VARIABLE larder_result)
    if(NOT larder_result EQUAL 0)
      list(APPEND larder_missing ${larder_package_name})
    endif()
  endforeach()
endif()

if(larder_missing)
  list(JOIN larder_missing " " larder_missing)
  message(FATAL_ERROR "larder needs packages that are not installed: ${larder_missing}\n"
                      "On Debian 12: scripts/deps.sh, or as root\n"
                      "  apt-get install --no-install-recommends ${larder_missing}")
endif()
