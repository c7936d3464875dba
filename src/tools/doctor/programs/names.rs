//! Lists of programs' names, and of words in names.

/// Whether a list contains a word.
pub(super) fn has(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == word)
}

/// Servers of HTTP apps.
pub(super) const SERVERS: &str = "
gunicorn uvicorn hypercorn daphne waitress-serve granian uwsgi flask fastapi puma unicorn falcon thin rackup
rails http-server serve next nuxt nuxi remix-serve vite astro nest strapi streamlit json-server phx.server
http.server wsgiref iodine passenger rr frankenphp mod_wsgi-express pserve tornado sanic bjoern cherryd
meinheld webpack-dev-server
";

/// Data stores, brokers, proxies and monitoring: lameduck is never before these.
pub(super) const INFRASTRUCTURE: &str = "
redis redis-server redis-sentinel valkey valkey-server keydb keydb-server dragonfly memcached postgres
postgresql postgis timescaledb pgbouncer pgpool pgadmin pgadmin4 mysql mysqld mysqld_safe mariadb mariadbd
percona mongo mongod mongodb mongos mongo-express rabbitmq rabbitmq-server kafka kafka-server-start.sh
zookeeper redpanda nats nats-server mosquitto emqx activemq artemis pulsar elasticsearch opensearch kibana
logstash filebeat fluentd fluent-bit vector telegraf influxdb clickhouse clickhouse-server cassandra scylla
couchdb neo4j minio etcd consul vault nomad nginx openresty haproxy traefik caddy envoy varnish varnishd squid
apache2 httpd prometheus alertmanager grafana loki promtail tempo jaeger zipkin otelcol
opentelemetry-collector statsd cadvisor portainer watchtower adminer phpmyadmin mailhog mailpit maildev
localstack cloudflared ngrok frpc frps tailscaled tailscale wireguard certbot acme.sh sshd ssh autossh stunnel
socat crond cron supercronic ofelia busybox php-fpm dockerd containerd supervisord pm2 pm2-runtime meilisearch
typesense solr qdrant weaviate milvus temporal keycloak sentinel beanstalkd gearmand faktory rsyslogd
syslog-ng postfix dovecot exim bind9 named coredns dnsmasq unbound node_exporter chrome chromium selenium
browserless ollama pause rspamd clamd
";

/// Programs that connect, transfer, build, or process a queue.
pub(super) const OTHERS: &str = "
docker podman docker-compose kubectl jupyter jupyter-lab jupyter-notebook tensorboard
redis-cli mysqldump psql pg_dump mongosh mongodump curl wget nc telnet rsync git tail sleep tar rm cp mkdir
celery sidekiq rq resque dramatiq huey huey_consumer.py arq airflow delayed_job good_job shoryuken horizon
queue:work schedule:work schedule:run queue:listen ffmpeg vector mc alembic flyway liquibase prisma knex k6
locust wrk
";

/// Words in a name or a script of a process that takes no requests.
pub(super) const NO_SERVER: &str = "
worker workers cron crons queue queues job jobs scheduler consumer consumers mailer beat celery sidekiq bot
bots migrate migration migrations seed seeder backup backups exporter agent watcher client crawler scraper
spider indexer importer processor producer publisher subscriber listener broker tunnel replicator daemon
poller sync syncer etl ingest ingester redis postgres mysql mongo db database cache kafka rabbitmq mqtt
telegram discord notifier cleanup cleaner runner batch task tasks relay loadtest report reports init setup
logger monitor heartbeat minecraft nogui game games ftp sftp smtp imap dns vpn voip teamspeak valheim factorio
terraria mcrcon mqttd
";

/// Words in a name or a script of a process that takes requests.
pub(super) const SERVER: &str = "
server serve api web app http https site index main backend frontend gateway www website bff graphql rest
webapp dashboard ui storefront shop portal runserver
";
