# Writes OUTPUT with the version, commit, compiler and options as string macros.
execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT COMMIT)
  set(COMMIT "unknown")
endif()
set(CONTENT "#pragma once
#define BERT_VERSION \"${VERSION}\"
#define BERT_COMMIT \"${COMMIT}\"
#define BERT_COMPILER \"${COMPILER}\"
#define BERT_BUILD_OPTIONS \"${OPTIONS}\"
")
set(OLD "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} OLD)
endif()
if(NOT OLD STREQUAL CONTENT)
  file(WRITE ${OUTPUT} "${CONTENT}")
endif()
