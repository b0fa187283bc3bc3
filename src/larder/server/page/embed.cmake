# cmake -DOUT=<file.cc> -P embed.cmake: the page's sources as constants of C++.
set(text "// Written by embed.cmake.\n#include \"larder/server/page/page_text.h\"\n\nnamespace larder::server {\n")
foreach(source kPageHtml:page.html kPageCss:page.css kPageJs:page.js kPageFields:fields.json)
  string(REPLACE ":" ";" source ${source})
  list(POP_FRONT source name file)
  file(READ ${CMAKE_CURRENT_LIST_DIR}/${file} content)
  string(APPEND text "\nconst std::string_view ${name} = R\"~~~(${content})~~~\";\n")
endforeach()
file(WRITE ${OUT} "${text}}  // namespace larder::server\n")
