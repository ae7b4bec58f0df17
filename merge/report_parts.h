#ifndef REPORT_PARTS_H
#define REPORT_PARTS_H
/* The files of merge/report as text; made by the build. */
extern const char report_html[], report_css[], report_js[];
#endif
