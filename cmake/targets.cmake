# bert_options: the flags every target of this project shares.
add_library(bert_options INTERFACE)
target_compile_options(bert_options INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow>
  # nvcc's own generated code is not pedantic.
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;--expt-relaxed-constexpr>)
if(BERT_WERROR)
  target_compile_options(bert_options INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>)
endif()
target_include_directories(bert_options INTERFACE ${CMAKE_SOURCE_DIR})
if(BERT_SANITIZE)
  target_compile_options(bert_options INTERFACE -fsanitize=${BERT_SANITIZE}
                         -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(bert_options INTERFACE -fsanitize=${BERT_SANITIZE})
endif()

if(BERT_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "BERT_FUZZ needs libFuzzer: set CMAKE_CXX_COMPILER to clang++")
  endif()
  target_compile_options(bert_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# One static library per folder: bert_library(runtime SOURCES ... LINK ...) makes bert_runtime.
# CONFIGURE_DEPENDS globbing is avoided: a new file is a line in its folder's CMakeLists.txt.
function(bert_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(bert_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(bert_${name} PUBLIC bert_options ${ARG_LINK})
endfunction()

function(bert_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} bert_command_line)
  if(NOT BERT_SANITIZE)
    # What a program does not use it need not find: not all do what their libraries can.
    target_link_options(${name} PRIVATE -Wl,--as-needed)
  endif()
endfunction()

# bert_test(name SOURCES ... LINK ... [LABELS ...] [RUN_BY command ...]): one gtest binary, which is
# one test of ctest, run by a command that it is the last argument of.
function(bert_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;LABELS;RUN_BY" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${ARG_RUN_BY} $<TARGET_FILE:${name}>)
  set(timeout 600)
  if(BERT_SANITIZE)
    set(timeout 3000)  # a sanitizer costs several times as much
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${timeout})
endfunction()
