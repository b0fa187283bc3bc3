# Writes OUTPUT with the commit that SOURCE_DIR is at; untouched when it says the same already, so
# that nothing is compiled again. Run at every build: a configure step would go stale.
execute_process(
  COMMAND git -C ${SOURCE_DIR} describe --always --dirty --tags
  OUTPUT_VARIABLE commit
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET)
# A build in a container has no repository beside it.
if(NOT commit)
  set(commit "$ENV{LARDER_COMMIT}")
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define LARDER_COMMIT \"${commit}\"\n")
