// expect-anywhere: uncoordinated
const { PORT = 1337, DATABASE_HOST = 'localhost' } = process.env;
module.exports = { apps: [{ name: 'strapi', cwd: '/srv/strapi', script: 'yarn', args: 'start', interpreter: '/bin/bash', env: { PORT, DATABASE_HOST } }] };
