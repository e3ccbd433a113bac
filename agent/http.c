/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A multi handle drives one easy handle, because it can wait for a descriptor of ours beside
 * its own: a signal ends a request at once, without a thread and without a timer.  Both handles
 * live as long as the client, so connections and TLS sessions are used again.
 */
#include "agent/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "agent/stop.h"
#include "common/io.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/text.h"

#define WAIT_MS 1000 /* the longest pause between two looks; events end it earlier */

/* The wait that is never shorter than asked came with 7.66. */
#if LIBCURL_VERSION_NUM >= 0x074200
#define multi_wait curl_multi_poll
#else
#define multi_wait curl_multi_wait
#endif

struct agt_http {
	CURLM *multi;
	CURL *easy;
	char *proxy;
	char *proxy_user;
	char *ca_file;
	const struct secret *proxy_password;
	const struct agt_stop *stop;
	long connect_timeout_ms;
	long timeout_ms;
	char text[CURL_ERROR_SIZE];
};

/* A request under way. */
struct transfer {
	struct agt_http_response answer;
	size_t header_bytes;
	bool too_large;
	bool no_memory;
};

/* ---- URLs ---- */

struct host {
	const char *p;
	size_t n;
};

/* The host of url behind the scheme, with the brackets of an IPv6 address. */
static struct host host_of(const char *url)
{
	const char *p = strstr(url, "://");
	struct host h;

	p = p ? p + 3 : url;
	h.p = p;
	h.n = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":/?#");
	h.n = MIN(h.n, strlen(p));
	return h;
}

static bool is_loopback(struct host h)
{
	struct in_addr a;
	char text[INET_ADDRSTRLEN];

	if ((h.n == 9 && !strncasecmp(h.p, "localhost", 9)) || (h.n == 5 && !memcmp(h.p, "[::1]", 5)))
		return true;
	if (h.n >= sizeof(text))
		return false;
	memcpy(text, h.p, h.n);
	text[h.n] = '\0';
	return inet_pton(AF_INET, text, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}

static bool host_is_sane(struct host h)
{
	if (!h.n)
		return false;
	for (size_t i = 0; i < h.n; i++) {
		char c = h.p[i];

		if (!isalnum((unsigned char)c) && !strchr(*h.p == '[' ? "[]:.%" : ".-_", c))
			return false;
	}
	return *h.p != '[' || h.p[h.n - 1] == ']';
}

/* What stands behind the host: nothing, a path, or a port and then these. */
static bool port_is_sane(const char *p)
{
	size_t digits;

	if (*p != ':')
		return !*p || *p == '/' || *p == '?';
	digits = strspn(++p, "0123456789");
	return digits && digits <= 5 && atoi(p) > 0 && atoi(p) < 65536 &&
	       (!p[digits] || p[digits] == '/' || p[digits] == '?');
}

int agt_http_check_url(const char *url, struct err *e)
{
	bool tls = !strncmp(url, "https://", 8), plain = !strncmp(url, "http://", 7);
	struct host h = host_of(url);
	char name[TEXT_NAME_MAX];

	text_name(name, bytes_str(url));
	if (!tls && !plain)
		return err_set(e, -ERR_USAGE, "'%s' is no URL that begins with https://", name);
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return err_set(e, -ERR_USAGE, "URL '%s' has characters that are not encoded",
				       name);
	if (!host_is_sane(h) || !port_is_sane(h.p + h.n))
		return err_set(e, -ERR_USAGE, "URL '%s' has no usable host and port", name);
	if (plain && !is_loopback(h))
		return err_set(e, -ERR_USAGE,
			       "'%s': plain http:// is accepted for loopback addresses only; write"
			       " https://",
			       name);
	return 0;
}

/* ---- what the library calls ---- */

static void clear_answer(struct agt_http_response *a)
{
	buf_clear(&a->body);
	a->request_id[0] = a->content_type[0] = a->location[0] = '\0';
	a->date_s = 0;
	a->retry_after_s = -1;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	n *= size;
	if (buf_len(&t->answer.body) + n > AGT_HTTP_BODY_MAX)
		t->too_large = true;
	else if (buf_put(&t->answer.body, p, n) < 0)
		t->no_memory = true;
	else
		return n;
	return 0;
}

/* The value when the line is of that header, without blanks around it; else NULL. */
static const char *value_of(const char *line, const char *name, char out[AGT_HTTP_TEXT_MAX])
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return NULL;
	line += n + 1;
	line += strspn(line, " \t");
	n = strcspn(line, "\r\n");
	while (n && strchr(" \t", line[n - 1]))
		n--;
	n = MIN(n, AGT_HTTP_TEXT_MAX - 1);
	/* Nothing of a stranger's reaches a terminal or a log raw. */
	for (size_t i = 0; i < n; i++)
		out[i] = line[i] >= 0x20 && line[i] < 0x7f ? line[i] : '?';
	out[n] = '\0';
	return out;
}

static int64_t seconds_until(const char *value)
{
	time_t t;

	if (*value && strspn(value, "0123456789") == strlen(value))
		return strlen(value) > 9 ? 999999999 : atol(value);
	t = curl_getdate(value, NULL);
	return t < 0 ? -1 : MAX(0, t - time(NULL));
}

static void take_line(struct transfer *t, const char *line)
{
	struct agt_http_response *a = &t->answer;
	char value[AGT_HTTP_TEXT_MAX];

	/* An answer of several: 100, or a proxy's before the service's. */
	if (!strncmp(line, "HTTP/", 5))
		clear_answer(a);
	else if (value_of(line, "X-Request-Id", value))
		memcpy(a->request_id, value, sizeof(value));
	else if (value_of(line, "Content-Type", value))
		memcpy(a->content_type, value, sizeof(value));
	else if (value_of(line, "Location", value))
		memcpy(a->location, value, sizeof(value));
	else if (value_of(line, "Date", value))
		a->date_s = MAX(0, curl_getdate(value, NULL));
	else if (value_of(line, "Retry-After", value))
		a->retry_after_s = seconds_until(value);
	else if (value_of(line, "Content-Length", value) && strtoull(value, NULL, 10) > AGT_HTTP_BODY_MAX)
		t->too_large = true;
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	_cleanup_free_ char *line = NULL;

	n *= size;
	t->header_bytes += n;
	if (t->header_bytes > AGT_HTTP_HEADERS_MAX) {
		t->too_large = true;
		return 0;
	}
	line = strndup(p, n);
	if (!line) {
		t->no_memory = true;
		return 0;
	}
	take_line(t, line);
	return t->too_large ? 0 : n;
}

/* ---- the client ---- */

static int set_fixed(struct agt_http *h, struct err *e)
{
	CURL *c = h->easy;
	CURLcode r = curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);

#define SET(option, value)                                   \
	do {                                                 \
		if (r == CURLE_OK)                           \
			r = curl_easy_setopt(c, option, value); \
	} while (0)
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_ERRORBUFFER, h->text);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_CONNECTTIMEOUT_MS, h->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, h->timeout_ms);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_USERAGENT, "stager-agent/" STAGER_VERSION);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A signal must not wait for a name server that does not answer. */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	if (h->ca_file) {
		SET(CURLOPT_CAINFO, h->ca_file);
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_PROXY_CAINFO, h->ca_file);
		SET(CURLOPT_PROXY_CAPATH, NULL);
	}
	if (h->proxy_user) {
		SET(CURLOPT_PROXYAUTH, (long)CURLAUTH_ANY);
		SET(CURLOPT_PROXYUSERNAME, h->proxy_user);
		SET(CURLOPT_PROXYPASSWORD,
		    h->proxy_password ? secret_text(h->proxy_password) : "");
	}
#undef SET
	if (r != CURLE_OK)
		return err_set(e, r == CURLE_OUT_OF_MEMORY ? -ENOMEM : -ENOSYS,
			       "set up the HTTPS client: %s", curl_easy_strerror(r));
	return 0;
}

static int check_proxy(const char *proxy, struct err *e)
{
	struct host h = host_of(proxy);
	char name[TEXT_NAME_MAX];

	if (strchr(proxy, '@'))
		return err_set(e, -ERR_USAGE,
			       "the proxy's URL holds a user or password: give proxy.user and"
			       " proxy.password_file instead");
	if ((strncmp(proxy, "http://", 7) != 0 && strncmp(proxy, "https://", 8) != 0) ||
	    !host_is_sane(h) || !port_is_sane(h.p + h.n))
		return err_set(e, -ERR_USAGE,
			       "proxy '%s' is no URL like http://proxy.example:3128",
			       text_name(name, bytes_str(proxy)));
	return 0;
}

static int copy(const char *s, char **ret)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

int agt_http_new(const struct agt_http_opts *opts, struct agt_http **ret, struct err *e)
{
	_cleanup_(agt_http_freep) struct agt_http *h = NULL;
	int r = opts->proxy ? check_proxy(opts->proxy, e) : 0;

	if (r < 0)
		return r;
	if (opts->ca_file && access(opts->ca_file, R_OK) < 0)
		return err_sys(e, "open the file of trusted authorities %s", opts->ca_file);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, -ENOMEM, "start the HTTPS library");
	h = calloc(1, sizeof(*h));
	if (!h) {
		curl_global_cleanup();
		return err_sysn(e, -ENOMEM, "make an HTTPS client");
	}
	h->multi = curl_multi_init();
	h->easy = curl_easy_init();
	if (!h->multi || !h->easy || copy(opts->proxy, &h->proxy) < 0 ||
	    copy(opts->proxy_user, &h->proxy_user) < 0 || copy(opts->ca_file, &h->ca_file) < 0)
		return err_sysn(e, -ENOMEM, "make an HTTPS client");
	h->proxy_password = opts->proxy_password;
	h->stop = opts->stop;
	h->connect_timeout_ms = opts->connect_timeout_ms ? opts->connect_timeout_ms
							 : AGT_HTTP_CONNECT_TIMEOUT_MS;
	h->timeout_ms = opts->timeout_ms ? opts->timeout_ms : AGT_HTTP_TIMEOUT_MS;
	r = set_fixed(h, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void agt_http_free(struct agt_http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	free(h->proxy);
	free(h->proxy_user);
	free(h->ca_file);
	free(h);
	curl_global_cleanup();
}

void agt_http_response_fini(struct agt_http_response *r)
{
	if (!r)
		return;
	buf_fini(&r->body);
	*r = (struct agt_http_response){ 0 };
}

/* ---- a request ---- */

/*
 * The library must add none of its own headers that say something: they would not be signed, and
 * "Expect: 100-continue" only costs a round trip.
 */
static int make_headers(const struct agt_http_request *request, struct curl_slist **ret,
			struct err *e)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	bool typed = false;
	size_t i = 0;

	for (; i < request->n_headers && list; i++) {
		const struct agt_http_header *h = &request->headers[i];
		_cleanup_free_ char *line = NULL;
		struct curl_slist *longer;

		typed = typed || !strcasecmp(h->name, "Content-Type");
		if (asprintf(&line, "%s: %s", h->name, h->value) < 0)
			line = NULL;
		longer = line ? curl_slist_append(list, line) : NULL;
		/* The Authorization header is in here. */
		if (line)
			explicit_bzero(line, strlen(line));
		if (!longer)
			break;
		list = longer;
	}
	if (list && i == request->n_headers && !typed && !curl_slist_append(list, "Content-Type:"))
		i = SIZE_MAX;
	if (!list || i != request->n_headers) {
		curl_slist_free_all(list);
		return err_sysn(e, -ENOMEM, "send a request");
	}
	*ret = list;
	return 0;
}

/* A token and a signature are in it. */
static void free_headers(struct curl_slist *list)
{
	for (struct curl_slist *i = list; i; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(list);
}

static CURLcode set_request(struct agt_http *h, const struct agt_http_request *request,
			    struct transfer *t)
{
	bool has_body = request->body.p || !strcmp(request->method, "POST") ||
			!strcmp(request->method, "PUT");
	/* A password for the proxy is none of a local server's business. */
	bool direct = !h->proxy || !strncmp(request->url, "http://", 7);
	CURL *c = h->easy;
	CURLcode r = curl_easy_setopt(c, CURLOPT_URL, request->url);

	if (r == CURLE_OK)
		r = curl_easy_setopt(c, CURLOPT_PROXY, direct ? "" : h->proxy);
	if (r == CURLE_OK)
		r = curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
	if (r == CURLE_OK && has_body)
		r = curl_easy_setopt(c, CURLOPT_POSTFIELDS,
				     request->body.p ? (const char *)request->body.p : "");
	if (r == CURLE_OK && has_body)
		r = curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.n);
	if (r == CURLE_OK)
		r = curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, request->method);
	/*
	 * When a connection that was used before breaks, the library sends the request again by
	 * itself, which would do twice what a POST does.
	 */
	if (r == CURLE_OK)
		r = curl_easy_setopt(c, CURLOPT_FRESH_CONNECT,
				     strcmp(request->method, "POST") ? 0L : 1L);
	if (r == CURLE_OK)
		r = curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	return r == CURLE_OK ? curl_easy_setopt(c, CURLOPT_HEADERDATA, t) : r;
}

/* Until the transfer has ended one way or the other.  *ret is the library's verdict. */
static int drive(struct agt_http *h, CURLcode *ret, struct err *e)
{
	struct curl_waitfd fd = { .fd = h->stop ? h->stop->fd : -1, .events = CURL_WAIT_POLLIN };
	CURLMcode m;
	CURLMsg *msg;
	int running, n;

	do {
		m = curl_multi_perform(h->multi, &running);
		if (m == CURLM_OK && running)
			m = multi_wait(h->multi, &fd, h->stop ? 1 : 0, WAIT_MS, &n);
		if (m != CURLM_OK)
			return err_set(e, m == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EIO,
				       "HTTPS library: %s", curl_multi_strerror(m));
		if (agt_stop_asked(h->stop))
			return err_set(e, -ERR_CANCELLED, "ended by a signal");
	} while (running);
	*ret = CURLE_OK;
	while ((msg = curl_multi_info_read(h->multi, &n)))
		if (msg->msg == CURLMSG_DONE)
			*ret = msg->data.result;
	return 0;
}

/* ---- what went wrong ---- */

static int tls_failed(struct agt_http *h, const char *host, struct err *e)
{
	return err_set(e, -ERR_AUTH,
		       "the certificate of %s cannot be trusted: %s (check the host name in the"
		       " endpoint, this machine's clock, and control_plane.ca_file)",
		       host, h->text);
}

static int proxy_failed(struct agt_http *h, const char *host, long code, struct err *e)
{
	if (code == 407)
		return err_set(e, -ERR_AUTH,
			       "proxy %s refused user and password (HTTP 407): check proxy.user and"
			       " proxy.password_file",
			       h->proxy);
	return err_set(e, -ERR_CONNECT, "proxy %s does not connect to %s: HTTP %ld", h->proxy,
		       host, code);
}

static int timed_out(struct agt_http *h, const char *host, struct err *e)
{
	double sent = 0;

	/* Time until the request could be sent: none, then no connection stood. */
	curl_easy_getinfo(h->easy, CURLINFO_PRETRANSFER_TIME, &sent);
	if (sent > 0)
		return err_set(e, -ERR_LOST, "%s did not answer within %g s", host,
			       (double)h->timeout_ms / 1000);
	return err_set(e, -ERR_CONNECT_TIMEOUT,
		       "no connection to %s within %g s: check routes, firewall and proxy", host,
		       (double)MIN(h->timeout_ms, h->connect_timeout_ms) / 1000);
}

static int too_large(const char *host, struct err *e)
{
	return err_set(e, -ERR_PROTOCOL,
		       "the answer of %s is larger than %u MiB: that is no answer of this service",
		       host, AGT_HTTP_BODY_MAX >> 20);
}

static int failed(struct agt_http *h, const struct transfer *t, CURLcode code,
		  const char *host, struct err *e)
{
	const char *text = h->text[0] ? h->text : curl_easy_strerror(code);
	long connect_code = 0;

	if (t->too_large)
		return too_large(host, e);
	if (t->no_memory || code == CURLE_OUT_OF_MEMORY)
		return err_sysn(e, -ENOMEM, "answer of %s", host);
	curl_easy_getinfo(h->easy, CURLINFO_HTTP_CONNECTCODE, &connect_code);
	if (connect_code >= 300)
		return proxy_failed(h, host, connect_code, e);

	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
		return err_set(e, -ERR_CONNECT, "no connection to %s: %s", host, text);
	case CURLE_OPERATION_TIMEDOUT:
		return timed_out(h, host, e);
	case CURLE_PEER_FAILED_VERIFICATION:
#if LIBCURL_VERSION_NUM < 0x073e00
	case CURLE_SSL_CACERT: /* the same code since 7.62 */
#endif
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return tls_failed(h, host, e);
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return err_set(e, -ERR_LOST, "the connection to %s broke: %s", host, text);
	case CURLE_URL_MALFORMAT:
		return err_set(e, -ERR_USAGE, "URL of %s: %s", host, text);
	default:
		return err_set(e, -ERR_PROTOCOL, "request to %s: %s", host, text);
	}
}

static int check_redirect(const struct agt_http_response *a, const char *host, struct err *e)
{
	struct host h = host_of(a->location);

	if (a->status < 300 || a->status > 399)
		return 0;
	if (strstr(a->location, "://"))
		return err_set(e, -ERR_PROTOCOL,
			       "%s redirects to %.*s (HTTP %d), which is not followed: a signature"
			       " is good for one host; check the endpoint, and whether a login page"
			       " or proxy is in between",
			       host, (int)h.n, h.p, a->status);
	return err_set(e, -ERR_PROTOCOL,
		       "%s redirects to '%s' (HTTP %d), which is not followed: check the endpoint",
		       host, a->location, a->status);
}

int agt_http_send(struct agt_http *h, const struct agt_http_request *request,
		  struct agt_http_response *ret, struct err *e)
{
	struct transfer t = { .answer = { .retry_after_s = -1 } };
	struct curl_slist *headers = NULL;
	struct host at = host_of(request->url);
	CURLcode code = CURLE_OUT_OF_MEMORY;
	int64_t begin = clock_mono_ns();
	char host[256];
	long status = 0;
	int r = agt_http_check_url(request->url, e);

	if (r == 0)
		r = make_headers(request, &headers, e);
	if (r < 0)
		return r;
	snprintf(host, sizeof(host), "%.*s", (int)at.n, at.p);
	h->text[0] = '\0';
	code = set_request(h, request, &t);
	if (code == CURLE_OK)
		code = curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, headers);
	if (code == CURLE_OK && curl_multi_add_handle(h->multi, h->easy) == CURLM_OK) {
		r = drive(h, &code, e);
		curl_multi_remove_handle(h->multi, h->easy);
	}
	if (r == 0 && (code != CURLE_OK || t.too_large))
		r = failed(h, &t, code, host, e);
	if (r == 0) {
		curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
		t.answer.status = (int)status;
		t.answer.received_s = (int64_t)time(NULL);
		r = check_redirect(&t.answer, host, e);
	}
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
	free_headers(headers);
	log_debug("%s %s: %s%.0d (%lld ms)%s%s", request->method, request->url,
		  r < 0 ? "no answer" : "HTTP ", t.answer.status,
		  (long long)((clock_mono_ns() - begin) / 1000000),
		  *t.answer.request_id ? ", request " : "", t.answer.request_id);
	if (r < 0) {
		agt_http_response_fini(&t.answer);
		return r;
	}
	*ret = t.answer;
	return 0;
}

static int send_through(void *arg, const struct agt_http_request *request,
			struct agt_http_response *ret, struct err *e)
{
	return agt_http_send(arg, request, ret, e);
}

struct agt_transport agt_http_transport(struct agt_http *h)
{
	return (struct agt_transport){ .send = send_through, .arg = h };
}
