/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/control.h"
#include "agent/errors.h"
#include "agent/json.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define PAGE 200
#define LISTED_MAX 10        /* VPCs named when the quota is full */
#define READY_POLLS_MAX 300  /* for a subnet; takes seconds */
#define SUBNET_BITS 24       /* of a subnet of ours in a VPC that we did not make */
#define SSH_PORT 22
#define BLOCK_PORT 8900      /* Linux block-level migration, beside 22 */

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

int agt_network_project(struct agt_migration *m, struct err *e)
{
	const char *id;
	int r;

	if (*m->run.project_id)
		return 0;
	r = agt_migration_cloud(m, e);
	if (r == 0)
		r = agt_cloud_project(agt_control_cloud(m->control), m->run.region, &id, e);
	if (r < 0)
		return r;
	if (!AGT_SET(m->run.project_id, id))
		return err_set(e, -ERR_PROTOCOL, "the project id of %s is too long",
			       m->run.region);
	return 0;
}

/* A list of the VPC service, of the region's project. */
static int list_vpc(struct agt_migration *m, const char *path, const char *key,
		    const char *name, const char *value, struct cJSON **ret, struct err *e)
{
	return agt_migration_list(m,
				  &(struct agt_list){
					  .call = { .service = AGT_VPC,
						    .method = "GET",
						    .path = path,
						    .query = { { value ? name : NULL, value } } },
					  .key = key,
					  .limit = PAGE,
					  .marker = true,
				  },
				  ret, e);
}

static int post_vpc(struct agt_migration *m, const char *path, const char *key,
		    struct cJSON *inner, struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();

	agt_json_set(body, key, inner);
	return agt_migration_call(m,
				  &(struct agt_call){ .service = AGT_VPC,
						      .method = "POST",
						      .path = path,
						      .body = body },
				  reply, e);
}

/* A quota: what the service said, what can be done, by which call. */
static int quota(const struct agt_reply *reply, const char *what, const char *there,
		 const char *call, struct err *e)
{
	return err_set(e, -ERR_FORBIDDEN,
		       "the quota of %s is used up (%s: %s): delete one that is not used (%s)%s%s, "
		       "or raise the quota, then run this again",
		       what, reply->code, reply->message, call, *there ? "; there are " : "",
		       there);
}

/* Is the thing of that id in the list still being made? One that is not told of is not. */
static bool being_made(const struct cJSON *all, const char *id, const char *const *words)
{
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i))
		for (const char *const *w = words; *w && !strcmp(agt_json_str(i, "id", ""), id);
		     w++)
			if (!strcasecmp(agt_json_str(i, "status", ""), *w))
				return true;
	return false;
}

/* Wait until the status of a thing that list tells of is none of words. */
static int wait_ready(struct agt_migration *m,
		      int (*list)(struct agt_migration *, struct cJSON **, struct err *),
		      const char *id, const char *const *words, const char *what, struct err *e)
{
	for (int i = 0; i < READY_POLLS_MAX; i++) {
		_cleanup_(agt_json_freep) struct cJSON *all = NULL;
		int r = list(m, &all, e);

		/* What it is wanted for will tell. */
		if (r == -ERR_CLOUD || (r == 0 && !being_made(all, id, words)))
			return 0;
		if (r == 0)
			r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -ERR_CLOUD, "%s %s does not become ready", what, id);
}

/* ---- VPC ---- */

static int list_vpcs(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	return list_vpc(m, "/v1/{project_id}/vpcs", "vpcs", NULL, NULL, ret, e);
}

static const char *vpc_name(const struct agt_migration *m)
{
	return m->o->migrate.vpc_name;
}

static int find_vpc(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	const struct cJSON *found = NULL;
	int r = list_vpcs(m, &all, e);

	if (r < 0)
		return r;
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i)) {
		if (strcmp(agt_json_str(i, "name", ""), vpc_name(m)) != 0)
			continue;
		if (found)
			return err_set(e, -ERR_USAGE,
				       "two VPCs of %s are named %s (%s, %s): rename one, or "
				       "give the name of another as TARGET_VPC_NAME",
				       m->run.region, vpc_name(m), agt_json_str(found, "id", ""),
				       agt_json_str(i, "id", ""));
		found = i;
	}
	if (!found || !AGT_SET(m->run.vpc_id, agt_json_str(found, "id", "")))
		return 0;
	AGT_SET(m->run.vpc_name, vpc_name(m));
	AGT_SET(m->run.vpc_cidr, agt_json_str(found, "cidr", ""));
	return 1;
}

static int post_vpc_itself(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	struct cJSON *vpc = agt_json_object();
	int r;

	agt_json_set_str(vpc, "name", vpc_name(m));
	agt_json_set_str(vpc, "cidr", m->o->migrate.vpc_cidr);
	r = post_vpc(m, "/v1/{project_id}/vpcs", "vpc", vpc, reply, e);
	if (r < 0)
		return r;
	if (!AGT_SET(m->run.vpc_id, agt_json_str(reply->body, "vpc.id", "")))
		return err_set(e, -ERR_PROTOCOL, "VPC %s was made, but its id is missing",
			       vpc_name(m));
	AGT_SET(m->run.vpc_name, vpc_name(m));
	AGT_SET(m->run.vpc_cidr, m->o->migrate.vpc_cidr);
	log_info("made VPC %s (%s), %s", vpc_name(m), m->run.vpc_id, m->run.vpc_cidr);
	return 0;
}

/* The VPCs there are, for a person who has to choose one. */
static int vpc_quota(struct agt_migration *m, const struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	_cleanup_(buf_fini) struct buf names = BUF_INIT;
	struct err ignored = { 0 };
	size_t n = 0;

	if (list_vpcs(m, &all, &ignored) < 0)
		log_debug("list VPCs: %s", ignored.text);
	/* The reason is the quota, whatever came of this. */
	AGT_SET(m->code, reply->code);
	for (const struct cJSON *i = agt_json_first(all, ""); i && n < LISTED_MAX;
	     i = agt_json_next(i), n++) {
		char name[TEXT_NAME_MAX];

		if (buf_printf(&names, "%s%s (%s)", n ? ", " : "",
			       text_name(name, bytes_str(agt_json_str(i, "name", ""))),
			       agt_json_str(i, "id", "")) < 0)
			return no_memory(e);
	}
	return quota(reply, "VPCs", buf_len(&names) ? buf_cstr(&names) : "",
		     "DELETE /v1/{project_id}/vpcs/{vpc_id}", e);
}

static int make_vpc(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "VPC", find_vpc, post_vpc_itself };
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	if (*m->run.vpc_id)
		return 0;
	r = find_vpc(m, e);
	if (r != 0)
		return r < 0 ? r : agt_migration_save(m, e);
	r = agt_migration_make(m, &making, &reply, e);
	if (r != -ERR_CLOUD)
		return r;
	if (agt_reply_is(&reply, "VPC.0114"))
		return vpc_quota(m, &reply, e);
	/* Somebody was faster. */
	if (agt_reply_is(&reply, "VPC.0115") && find_vpc(m, &(struct err){ 0 }) == 1)
		return agt_migration_save(m, e);
	return r;
}

/* No subnet can be put into it before. */
static int wait_for_vpc(struct agt_migration *m, struct err *e)
{
	static const char *const words[] = { "CREATING", NULL };

	return wait_ready(m, list_vpcs, m->run.vpc_id, words, "VPC", e);
}

int agt_network_vpc(struct agt_migration *m, struct err *e)
{
	int r = make_vpc(m, e);

	return r < 0 || *m->run.subnet_id || m->dry ? r : wait_for_vpc(m, e);
}

/* ---- subnet ---- */

/*
 * Network and gateway for a subnet of the VPC: what the options say when it lies in the VPC,
 * else the first /24 of it.
 */
static int subnet_range(const char *vpc_cidr, const char *wanted, char cidr[32],
			char gateway[INET_ADDRSTRLEN])
{
	char text[64];
	struct in_addr vpc, net;
	unsigned vpc_bits, bits;
	uint32_t mask;

	if (sscanf(vpc_cidr, "%63[0-9.]/%u", text, &vpc_bits) != 2 || vpc_bits > 28 ||
	    vpc_bits < 1 || inet_pton(AF_INET, text, &vpc) != 1)
		return -EINVAL;
	mask = 0xffffffffu << (32 - vpc_bits);
	if (sscanf(wanted, "%63[0-9.]/%u", text, &bits) != 2 || bits > 28 || bits < vpc_bits ||
	    inet_pton(AF_INET, text, &net) != 1 ||
	    (ntohl(net.s_addr) & mask) != (ntohl(vpc.s_addr) & mask)) {
		bits = MAX(vpc_bits, (unsigned)SUBNET_BITS);
		net.s_addr = htonl(ntohl(vpc.s_addr) & mask);
	}
	snprintf(cidr, 32, "%s/%u", inet_ntop(AF_INET, &net, text, sizeof(text)), bits);
	net.s_addr = htonl(ntohl(net.s_addr) + 1);
	inet_ntop(AF_INET, &net, gateway, INET_ADDRSTRLEN);
	return 0;
}

static void subnet_name(const struct agt_migration *m, char *out, size_t size)
{
	snprintf(out, size, "%.57s-subnet", m->run.vpc_name);
}

/*
 * The VPC's subnet of our name, else of the wanted range, else (with any) the first one with
 * addresses left.
 */
static int choose_subnet(struct agt_migration *m, bool any, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	const struct cJSON *best = NULL;
	int best_rank = 0, r;
	char name[AGT_RUN_ID];

	subnet_name(m, name, sizeof(name));
	r = list_vpc(m, "/v1/{project_id}/subnets", "subnets", "vpc_id", m->run.vpc_id, &all, e);
	if (r < 0)
		return r;
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i)) {
		const char *of = agt_json_str(i, "vpc_id", m->run.vpc_id);
		int rank = any;

		if (strcmp(of, m->run.vpc_id) != 0 || !strcmp(agt_json_str(i, "status", ""), "ERROR"))
			continue;
		if (!strcmp(agt_json_str(i, "name", ""), name))
			rank = 3;
		else if (!strcmp(agt_json_str(i, "cidr", ""), m->o->migrate.subnet_cidr))
			rank = 2;
		else if (agt_json_int(i, "available_ip_address_count", 1) <= 0)
			rank = 0;
		if (rank > best_rank) {
			best = i;
			best_rank = rank;
		}
	}
	return best && AGT_SET(m->run.subnet_id, agt_json_str(best, "id", ""));
}

static int find_subnet(struct agt_migration *m, struct err *e)
{
	return choose_subnet(m, false, e);
}

static int post_subnet(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	char cidr[32], gateway[INET_ADDRSTRLEN], name[AGT_RUN_ID];
	struct cJSON *subnet;
	int r;

	if (subnet_range(m->run.vpc_cidr, m->o->migrate.subnet_cidr, cidr, gateway) < 0)
		return err_set(e, -ERR_FORBIDDEN,
			       "VPC %s has no subnet with free addresses, and its range '%s' says "
			       "of no subnet that could be made: make one there",
			       m->run.vpc_name, m->run.vpc_cidr);
	subnet_name(m, name, sizeof(name));
	subnet = agt_json_object();
	agt_json_set_str(subnet, "name", name);
	agt_json_set_str(subnet, "cidr", cidr);
	agt_json_set_str(subnet, "gateway_ip", gateway);
	agt_json_set_str(subnet, "vpc_id", m->run.vpc_id);
	agt_json_set_bool(subnet, "dhcp_enable", true);
	r = post_vpc(m, "/v1/{project_id}/subnets", "subnet", subnet, reply, e);
	if (r < 0)
		return r;
	if (!AGT_SET(m->run.subnet_id, agt_json_str(reply->body, "subnet.id", "")))
		return err_set(e, -ERR_PROTOCOL, "a subnet was made, but its id is missing");
	log_info("made subnet %s (%s), %s", name, m->run.subnet_id, cidr);
	return 0;
}

/* A server cannot be put into a subnet before it is active. */
static int wait_for_subnet(struct agt_migration *m, struct err *e)
{
	for (int i = 0; i < READY_POLLS_MAX; i++) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
		const char *status;
		int r = agt_migration_call(m,
					   &(struct agt_call){ .service = AGT_VPC,
							       .method = "GET",
							       .path = "/v1/{project_id}/subnets/{}",
							       .args = { m->run.subnet_id } },
					   &reply, e);

		if (r < 0)
			return r;
		status = agt_json_str(reply.body, "subnet.status", "ACTIVE");
		if (!strcmp(status, "ACTIVE"))
			return 0;
		if (!strcmp(status, "ERROR"))
			return err_set(e, -ERR_CLOUD, "subnet %s is in status ERROR: delete it",
				       m->run.subnet_id);
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -ERR_CLOUD, "subnet %s does not become active", m->run.subnet_id);
}

int agt_network_subnet(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "subnet", find_subnet, post_subnet };
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	/* An earlier call may have made it, and was killed before it was active. */
	if (*m->run.subnet_id)
		return wait_for_subnet(m, e);
	r = choose_subnet(m, true, e);
	if (r > 0)
		r = agt_migration_save(m, e);
	if (r < 0 || *m->run.subnet_id)
		return r < 0 ? r : wait_for_subnet(m, e);
	r = agt_migration_make(m, &making, &reply, e);
	/* Somebody was faster. */
	if (r == -ERR_CLOUD && agt_reply_is(&reply, "VPC.0204") &&
	    find_subnet(m, &(struct err){ 0 }) == 1)
		r = agt_migration_save(m, e);
	if (r == -ERR_CLOUD && agt_reply_is(&reply, "VPC.0114"))
		return quota(&reply, "subnets", "",
			     "DELETE /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}", e);
	return r < 0 ? r : wait_for_subnet(m, e);
}

/* ---- security group ---- */

static int add_peer(struct agt_peers *p, const char *text)
{
	unsigned char address[16];
	char host[AGT_PEER_SIZE];
	size_t n = strcspn(text, "/");
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	unsigned bits = family == AF_INET ? 32 : 128;
	char *end;

	if (n >= sizeof(host) - 5)
		return -EINVAL;
	snprintf(host, sizeof(host), "%.*s", (int)n, text);
	if (inet_pton(family, host, address) != 1)
		return -EINVAL;
	if (text[n]) {
		unsigned long given = strtoul(text + n + 1, &end, 10);

		if (*end || end == text + n + 1 || given > bits)
			return -EINVAL;
		bits = (unsigned)given;
	}
	if (p->n == AGT_PEERS_MAX)
		return -E2BIG;
	snprintf(p->v[p->n], AGT_PEER_SIZE, "%.*s/%u", AGT_PEER_SIZE - 5, host, bits);
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->v[i], p->v[p->n]))
			return 0;
	p->n++;
	return 0;
}

int agt_network_peers(const struct agt_migration *m, struct agt_peers *ret, struct err *e)
{
	const struct strlist *extra = &m->o->migrate.peers;

	ret->n = 0;
	/* SMS may know the source by something that is no address. */
	if (*m->run.source_ip)
		(void)add_peer(ret, m->run.source_ip);
	if (m->o->migrate.source_ip && add_peer(ret, m->o->migrate.source_ip) < 0)
		return err_set(e, -ERR_USAGE, "SOURCE_PRIVATE_IP: '%s' is no address",
			       m->o->migrate.source_ip);
	for (size_t i = 0; i < extra->n; i++) {
		int r = add_peer(ret, extra->v[i]);

		if (r == -E2BIG)
			return err_set(e, -ERR_USAGE, "EXTRA_PEER_IPS: more than %d peers",
				       AGT_PEERS_MAX);
		if (r < 0)
			return err_set(e, -ERR_USAGE,
				       "EXTRA_PEER_IPS: '%s' is no address (198.51.100.7) and no "
				       "network (198.51.100.0/24)",
				       extra->v[i]);
	}
	return 0;
}

/* Is the network (or address) inner a part of outer? An outer one that is empty is all. */
static bool covers(const char *outer, const char *inner)
{
	unsigned char a[16] = { 0 }, b[16] = { 0 };
	char text[AGT_PEER_SIZE];
	int family = strchr(inner, ':') ? AF_INET6 : AF_INET;
	unsigned max = family == AF_INET ? 32 : 128, bits[2] = { max, max };
	const char *both[2] = { outer, inner };
	unsigned char *out[2] = { a, b };

	if (!*outer)
		return true;
	if ((strchr(outer, ':') != NULL) != (family == AF_INET6))
		return false;
	for (int i = 0; i < 2; i++) {
		size_t n = strcspn(both[i], "/");

		if (n >= sizeof(text))
			return false;
		snprintf(text, sizeof(text), "%.*s", (int)n, both[i]);
		if (inet_pton(family, text, out[i]) != 1)
			return false;
		if (both[i][n])
			bits[i] = (unsigned)strtoul(both[i] + n + 1, NULL, 10);
	}
	if (bits[0] > bits[1] || bits[0] > max)
		return false;
	for (unsigned i = 0; i < bits[0]; i++)
		if ((a[i / 8] ^ b[i / 8]) & (0x80u >> i % 8))
			return false;
	return true;
}

/* A rule without a prefix is for one family all the same. */
static bool same_family(const struct cJSON *rule, const char *peer)
{
	const char *family = agt_json_str(rule, "ethertype", "");

	return !*family || !strcasecmp(family, strchr(peer, ':') ? "IPv6" : "IPv4");
}

bool agt_network_allowed(const struct cJSON *rules, const char *direction, const char *peer,
			 unsigned port)
{
	for (const struct cJSON *i = agt_json_first(rules, ""); i; i = agt_json_next(i)) {
		const char *protocol = agt_json_str(i, "protocol", "");
		int64_t min = agt_json_int(i, "port_range_min", 0);
		int64_t max = agt_json_int(i, "port_range_max", 0);
		bool any = !*protocol || !strcasecmp(protocol, "any");

		if (strcasecmp(agt_json_str(i, "direction", ""), direction) != 0 ||
		    agt_json_at(i, "remote_group_id") || !same_family(i, peer) ||
		    !covers(agt_json_str(i, "remote_ip_prefix", ""), peer))
			continue;
		if (any || (port && (!strcasecmp(protocol, "tcp") || !strcmp(protocol, "6")) &&
			    (!min || (min <= port && port <= max))))
			return true;
	}
	return false;
}

int agt_network_rules(struct agt_migration *m, const char *group, struct cJSON **ret,
		      struct err *e)
{
	return list_vpc(m, "/v1/{project_id}/security-group-rules", "security_group_rules",
			"security_group_id", group, ret, e);
}

/* A rule; one that is there already is fine. */
static int post_rule(struct agt_migration *m, const char *direction, const char *peer,
		     const char *protocol, unsigned port, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	struct cJSON *rule = agt_json_object();
	int r;

	agt_json_set_str(rule, "security_group_id", m->run.group_id);
	agt_json_set_str(rule, "direction", direction);
	agt_json_set_str(rule, "ethertype", strchr(peer, ':') ? "IPv6" : "IPv4");
	if (protocol)
		agt_json_set_str(rule, "protocol", protocol);
	if (port) {
		agt_json_set_int(rule, "port_range_min", port);
		agt_json_set_int(rule, "port_range_max", port);
	}
	agt_json_set_str(rule, "remote_ip_prefix", peer);
	r = post_vpc(m, "/v1/{project_id}/security-group-rules", "security_group_rule", rule,
		     &reply, e);
	if (r != -ERR_CLOUD || !agt_reply_is(&reply, "VPC.0602") || reply.status != 409)
		return r;
	if (!strcasestr(reply.message, "quota"))
		return 0;
	return quota(&reply, "rules of security groups", "",
		     "DELETE /v1/{project_id}/security-group-rules/{id}", e);
}

/* Open the group for the peers alone, both ways. */
static int open_group(struct agt_migration *m, struct err *e)
{
	static const struct {
		const char *direction, *protocol;
		unsigned port;
	} rows[] = {
		{ "ingress", "tcp", SSH_PORT },
		{ "ingress", "tcp", BLOCK_PORT },
		{ "ingress", "icmp", 0 }, /* SMS measures the network with it */
		{ "egress", NULL, 0 },
	};
	_cleanup_(agt_json_freep) struct cJSON *there = NULL;
	struct agt_peers peers;
	int r = agt_network_peers(m, &peers, e);

	if (r == 0)
		r = agt_network_rules(m, m->run.group_id, &there, e);
	if (r == 0 && peers.n == 0)
		log_info("no address of the source is known and EXTRA_PEER_IPS is empty: the "
			 "security group stays closed");
	for (size_t i = 0; i < peers.n && r == 0; i++)
		for (size_t k = 0; k < ARRAY_SIZE(rows) && r == 0; k++) {
			bool tcp = !rows[k].protocol || rows[k].port;

			if (tcp && agt_network_allowed(there, rows[k].direction, peers.v[i],
						       rows[k].port))
				continue;
			/* ICMP for IPv6 has a protocol of its own. */
			r = post_rule(m, rows[k].direction, peers.v[i],
				      rows[k].protocol && !rows[k].port && strchr(peers.v[i], ':')
					      ? "icmpv6"
					      : rows[k].protocol,
				      rows[k].port, e);
		}
	return r;
}

static void group_name(const struct agt_migration *m, char *out, size_t size)
{
	snprintf(out, size, "%.54s-stager", m->run.vpc_name);
}

static int find_group(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	char name[AGT_RUN_ID];
	int r = list_vpc(m, "/v1/{project_id}/security-groups", "security_groups", NULL, NULL,
			 &all, e);

	group_name(m, name, sizeof(name));
	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i))
		if (!strcmp(agt_json_str(i, "name", ""), name))
			return AGT_SET(m->run.group_id, agt_json_str(i, "id", ""));
	return r;
}

static int post_group(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	struct cJSON *group = agt_json_object();
	char name[AGT_RUN_ID];
	int r;

	group_name(m, name, sizeof(name));
	agt_json_set_str(group, "name", name);
	agt_json_set_str(group, "vpc_id", m->run.vpc_id);
	r = post_vpc(m, "/v1/{project_id}/security-groups", "security_group", group, reply, e);
	if (r < 0)
		return r;
	if (!AGT_SET(m->run.group_id, agt_json_str(reply->body, "security_group.id", "")))
		return err_set(e, -ERR_PROTOCOL, "a security group was made, but its id is missing");
	log_info("made security group %s (%s)", name, m->run.group_id);
	return 0;
}

int agt_network_group(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "security group", find_group, post_group };
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r = 0;

	if (!*m->run.group_id) {
		r = find_group(m, e);
		if (r == 0)
			r = agt_migration_make(m, &making, &reply, e);
		if (r == -ERR_CLOUD &&
		    (agt_reply_is(&reply, "VPC.0604") || agt_reply_is(&reply, "VPC.0114")))
			return quota(&reply, "security groups", "",
				     "DELETE /v1/{project_id}/security-groups/{id}", e);
	}
	return r < 0 ? r : open_group(m, e);
}

/* ---- public address ---- */

static void address_name(const struct agt_migration *m, char *out, size_t size)
{
	const char *random = strrchr(m->run.run_id, '-');

	snprintf(out, size, "stager-%.8s", random ? random + 1 : m->run.run_id);
}

static int take_address(struct agt_migration *m, const struct cJSON *p)
{
	if (!AGT_SET(m->run.eip_id, agt_json_str(p, "id", "")))
		return 0;
	AGT_SET(m->run.eip_address, agt_json_str(p, "public_ip_address", ""));
	return 1;
}

int agt_network_addresses(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	return agt_migration_list(m,
				  &(struct agt_list){
					  .call = { .service = AGT_EIP,
						    .method = "GET",
						    .path = "/v1/{project_id}/publicips" },
					  .key = "publicips",
					  .limit = PAGE,
					  .marker = true,
				  },
				  ret, e);
}

static int find_address(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	char name[AGT_RUN_ID];
	int r = agt_network_addresses(m, &all, e);

	address_name(m, name, sizeof(name));
	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i))
		if (!strcmp(agt_json_str(i, "bandwidth_name", ""), name) ||
		    !strcmp(agt_json_str(i, "alias", ""), name))
			return take_address(m, i);
	return r;
}

static int post_address(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	struct cJSON *ip = agt_json_set_object(body, "publicip"), *bandwidth;
	char name[AGT_RUN_ID];
	int r;

	address_name(m, name, sizeof(name));
	agt_json_set_str(ip, "type", m->run.eip_pool);
	agt_json_set_int(ip, "ip_version", 4);
	agt_json_set_str(ip, "alias", name);
	bandwidth = agt_json_set_object(body, "bandwidth");
	agt_json_set_str(bandwidth, "name", name);
	agt_json_set_str(bandwidth, "share_type", "PER");
	agt_json_set_int(bandwidth, "size", m->o->migrate.eip_mbps);
	agt_json_set_str(bandwidth, "charge_mode", "traffic");
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_EIP,
						   .method = "POST",
						   .path = "/v1/{project_id}/publicips",
						   .body = body },
			       reply, e);
	if (r < 0)
		return r;
	if (!take_address(m, agt_json_at(reply->body, "publicip")))
		return err_set(e, -ERR_PROTOCOL, "a public address was made, but its id is missing");
	log_info("made public address %s (%s, pool %s)", m->run.eip_address, m->run.eip_id,
		 m->run.eip_pool);
	return 0;
}

static bool is_quota(const struct agt_reply *reply)
{
	return agt_reply_is(reply, "EIP.7905") || agt_reply_is(reply, "VPC.0114") ||
	       strcasestr(reply->message, "quota");
}

static int make_address(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "public address", find_address, post_address };
	const struct strlist *pools = &m->o->migrate.eip_pools;
	int r = 0;

	if (*m->run.eip_id || m->o->migrate.eip_mbps == 0)
		return 0;
	for (size_t i = 0; i < pools->n; i++) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };

		if (agt_words_have(m->run.pools_refused, pools->v[i]))
			continue;
		if (!AGT_SET(m->run.eip_pool, pools->v[i]))
			continue;
		r = agt_migration_make(m, &making, &reply, e);
		if (r != -ERR_CLOUD)
			return r;
		if (is_quota(&reply))
			return quota(&reply, "public addresses", "",
				     "DELETE /v1/{project_id}/publicips/{id}", e);
		log_info("pool %s gives no address: %s", pools->v[i], e->text);
		agt_words_add(m->run.pools_refused, sizeof(m->run.pools_refused), pools->v[i]);
	}
	if (r == 0)
		return err_set(e, -ERR_CLOUD, "no pool of public addresses is left to try (refused: "
			       "%s): give others in the key migrate.eip_pools",
			       m->run.pools_refused);
	return err_ctx(e, r, "no pool of public addresses gives one (%s)", m->run.pools_refused);
}

/* A server takes only an address that is ready. */
static int wait_for_address(struct agt_migration *m, struct err *e)
{
	static const char *const words[] = { "PENDING_CREATE", "NOTIFYING", NULL };

	return wait_ready(m, agt_network_addresses, m->run.eip_id, words, "public address", e);
}

int agt_network_address(struct agt_migration *m, struct err *e)
{
	int r = make_address(m, e);

	if (r < 0 || !*m->run.eip_id || *m->run.server_id || *m->run.job_id || m->dry)
		return r;
	return wait_for_address(m, e);
}
