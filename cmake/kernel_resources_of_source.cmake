# Script: compiles INPUT by NVCC for ARCHITECTURE and writes what ptxas says to REPORT.
get_filename_component(folder ${REPORT} DIRECTORY)
file(MAKE_DIRECTORY ${folder})
execute_process(
  COMMAND ${NVCC} -std=c++20 -O3 --expt-relaxed-constexpr -I${ROOT} -arch=${ARCHITECTURE} -cubin
          -Xptxas -v -o ${REPORT}.cubin ${INPUT}
  RESULT_VARIABLE result ERROR_VARIABLE said OUTPUT_VARIABLE said)
file(REMOVE ${REPORT}.cubin)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "nvcc could not compile ${INPUT} for ${ARCHITECTURE}:\n${said}")
endif()
file(WRITE ${REPORT} "${said}")
