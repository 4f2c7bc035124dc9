// For a Node-RED that is started to try the nodes out, or to test them: loopback only, nothing leaves the machine.
module.exports = {
  uiHost: '127.0.0.1',
  flowFile: 'flows.json',
  flowFilePretty: true,
  telemetry: { enabled: false, updateNotification: false },
  editorTheme: { tours: false, multiplayer: { enabled: false }, projects: { enabled: false } },
  externalModules: { palette: { allowInstall: false } },
  logging: { console: { level: 'info' } },
};
